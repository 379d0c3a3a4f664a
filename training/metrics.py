"""Scores of predicted against true classes, all read off one confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Confusion:
    """Counts of texts: rows are the true classes, columns the predicted ones, both in the order of labels."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]
    """(C, C)."""

    @classmethod
    def of(cls, labels: Sequence[str], true: Sequence[str], predicted: Sequence[str]) -> "Confusion":
        """Count pairs of labels; a label that is true or predicted must be in labels."""
        place = {label: index for index, label in enumerate(labels)}
        pairs = [np.array([place[label] for label in side], dtype=np.int64) for side in (true, predicted)]
        return cls.of_indices(labels, *pairs)

    @classmethod
    def of_indices(cls, labels: Sequence[str], true: NDArray[np.int64], predicted: NDArray[np.int64]) -> "Confusion":
        """Count pairs of places in labels."""
        counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
        np.add.at(counts, (true, predicted), 1)
        return cls(tuple(labels), counts)

    @property
    def accuracy(self) -> float:
        """The share of texts whose class was found; 0 where there is no text."""
        return float(np.trace(self.counts) / max(1, self.counts.sum()))

    @property
    def precision(self) -> NDArray[np.float64]:
        """(C,): of the texts given the class, the share that has it; 0 where there is none, as in scikit-learn."""
        return _ratio(np.diag(self.counts), self.counts.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,): of the texts that have the class, the share that was given it; 0 where there is none."""
        return _ratio(np.diag(self.counts), self.counts.sum(axis=1))

    @property
    def f1(self) -> NDArray[np.float64]:
        """(C,): the harmonic mean of precision and recall, 2 tp / (true + predicted)."""
        return _ratio(2 * np.diag(self.counts), self.counts.sum(axis=0) + self.counts.sum(axis=1))

    @property
    def macro_f1(self) -> float:
        """The macro average of f1."""
        return self.macro(self.f1)

    def macro(self, values: NDArray[np.float64]) -> float:
        """The mean over the classes that are true or predicted at least once, as scikit-learn takes it.

        Args:
            values: (C,).
        """
        present = self.counts.sum(axis=0) + self.counts.sum(axis=1) > 0
        return float(values[present].mean()) if present.any() else 0.0

    def worst_pairs(self, most: int) -> list[tuple[str, str, int]]:
        """The pairs confused most often: true label, predicted label, texts; at most `most` of them."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        places = [np.unravel_index(int(flat), wrong.shape) for flat in order]
        return [
            (self.labels[row], self.labels[column], int(wrong[row, column]))
            for row, column in places
            if wrong[row, column]
        ]

    def to_json(self) -> dict[str, Any]:
        """Every figure as plain JSON values."""
        rows = zip(self.labels, self.precision, self.recall, self.f1, self.counts.sum(axis=1), strict=True)
        return {
            "texts": int(self.counts.sum()),
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


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Part over whole; 0 where the whole is 0."""
    ratio: NDArray[np.float64] = part / np.maximum(1, whole)
    return ratio
