"""Scores of predicted against true classes, all read off one confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Confusion:
    """Counts of texts for each pair of a true and a predicted class that occurs."""

    labels: tuple[str, ...]
    true: NDArray[np.int64]
    """(P,) places in labels."""
    predicted: NDArray[np.int64]
    """(P,)."""
    texts: NDArray[np.int64]
    """(P,) how often each pair occurs: at least once, so that memory grows with the texts, not with C * C."""

    @classmethod
    def of(cls, labels: Sequence[str], true: Sequence[str], predicted: Sequence[str]) -> "Confusion":
        """Count pairs of labels; a label that is true or predicted must be in labels."""
        place = {label: index for index, label in enumerate(labels)}
        pairs = [np.array([place[label] for label in side], dtype=np.int64) for side in (true, predicted)]
        return cls.of_indices(labels, *pairs)

    @classmethod
    def of_indices(cls, labels: Sequence[str], true: NDArray[np.int64], predicted: NDArray[np.int64]) -> "Confusion":
        """Count pairs of places in labels."""
        cells, texts = np.unique(true * len(labels) + predicted, return_counts=True)
        return cls(tuple(labels), cells // len(labels), cells % len(labels), texts)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(C, C): rows are the true classes, columns the predicted ones."""
        counts = np.zeros((len(self.labels), len(self.labels)), dtype=np.int64)
        counts[self.true, self.predicted] = self.texts
        return counts

    @property
    def accuracy(self) -> float:
        """The share of texts whose class was found; 0 where there is no text."""
        return float(self._hits.sum() / max(1, self.texts.sum()))

    @property
    def precision(self) -> NDArray[np.float64]:
        """(C,): of the texts given the class, the share that has it; 0 where there is none, as in scikit-learn."""
        return _ratio(self._hits, self._sum(self.predicted))

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,): of the texts that have the class, the share that was given it; 0 where there is none."""
        return _ratio(self._hits, self._sum(self.true))

    @property
    def f1(self) -> NDArray[np.float64]:
        """(C,): the harmonic mean of precision and recall, 2 tp / (true + predicted)."""
        return _ratio(2 * self._hits, self._sum(self.predicted) + self._sum(self.true))

    @property
    def macro_f1(self) -> float:
        """The macro average of f1."""
        return self.macro(self.f1)

    def macro(self, values: NDArray[np.float64]) -> float:
        """The mean over the classes that are true or predicted at least once, as scikit-learn takes it.

        Args:
            values: (C,).
        """
        present = self._sum(self.predicted) + self._sum(self.true) > 0
        return float(values[present].mean()) if present.any() else 0.0

    def worst_pairs(self, most: int) -> list[tuple[str, str, int]]:
        """The pairs confused most often: true label, predicted label, texts; at most `most` of them."""
        (wrong,) = np.nonzero(self.true != self.predicted)
        order = wrong[np.argsort(-self.texts[wrong], kind="stable")][:most]
        return [
            (self.labels[self.true[pair]], self.labels[self.predicted[pair]], int(self.texts[pair])) for pair in order
        ]

    def to_json(self) -> dict[str, Any]:
        """Every figure as plain JSON values."""
        rows = zip(self.labels, self.precision, self.recall, self.f1, self._sum(self.true), strict=True)
        return {
            "texts": int(self.texts.sum()),
            "accuracy": self.accuracy,
            "macro_precision": self.macro(self.precision),
            "macro_recall": self.macro(self.recall),
            "macro_f1": self.macro_f1,
            "per_class": {
                label: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "texts": int(texts)}
                for label, precision, recall, f1, texts in rows
            },
            "confusion": {"labels": list(self.labels), "counts": self.counts.tolist()},
        }

    @property
    def _hits(self) -> NDArray[np.int64]:
        right = self.true == self.predicted
        hits = np.zeros(len(self.labels), dtype=np.int64)
        hits[self.true[right]] = self.texts[right]
        return hits

    def _sum(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        totals = np.zeros(len(self.labels), dtype=np.int64)
        np.add.at(totals, places, self.texts)
        return totals


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Part over whole; 0 where the whole is 0."""
    ratio: NDArray[np.float64] = part / np.maximum(1, whole)
    return ratio
