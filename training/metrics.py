"""Scores of predicted against true classes, all read off counts of texts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

RESAMPLINGS = 1000


@dataclass(frozen=True)
class Tally(ABC):
    """What was true and what was predicted, and of how many texts."""

    labels: tuple[str, ...]
    true: NDArray[Any]
    predicted: NDArray[Any]
    texts: NDArray[np.int64]
    """Of each row of true and predicted."""

    @property
    @abstractmethod
    def accuracy(self) -> float:
        """The share of texts of which everything was found; 0 where there is no text."""

    @property
    @abstractmethod
    def hits(self) -> NDArray[np.int64]:
        """(C,): texts that have the class and were given it."""

    @property
    @abstractmethod
    def with_class(self) -> NDArray[np.int64]:
        """(C,): texts that have the class."""

    @property
    @abstractmethod
    def given_class(self) -> NDArray[np.int64]:
        """(C,): texts that were given the class."""

    @abstractmethod
    def macro(self, values: NDArray[np.float64]) -> float:
        """The mean over the classes.

        Args:
            values: (C,).
        """

    @property
    def precision(self) -> NDArray[np.float64]:
        """(C,): of the texts given the class, the share that has it; 0 where there is none, as in scikit-learn."""
        return _ratio(self.hits, self.given_class)

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,): of the texts that have the class, the share that was given it; 0 where there is none."""
        return _ratio(self.hits, self.with_class)

    @property
    def f1(self) -> NDArray[np.float64]:
        """(C,): the harmonic mean of precision and recall, 2 tp / (true + predicted)."""
        return _ratio(2 * self.hits, self.given_class + self.with_class)

    @property
    def macro_f1(self) -> float:
        """The macro average of f1."""
        return self.macro(self.f1)

    @property
    def micro_f1(self) -> float:
        """F1 of all classes' texts put together."""
        return float(_ratio(2 * self.hits.sum(), self.given_class.sum() + self.with_class.sum()))

    def interval(self, measure: str, share: float = 0.95) -> tuple[float, float]:
        """Where a score would lie with other texts of the same kind: a percentile bootstrap (Efron 1979).

        Args:
            measure: the name of a property.
            share: of the resamplings that lie within.
        """
        values = [getattr(sample, measure) for sample in self.resampled(RESAMPLINGS)]
        low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
        return float(low), float(high)

    def resampled(self, times: int) -> list[Self]:
        """The same number of texts, drawn with replacement; always the same draws."""
        if not self.texts.sum():
            return [self] * times
        draw = np.random.default_rng(0)
        samples = draw.multinomial(self.texts.sum(), self.texts / self.texts.sum(), size=times)
        return [
            replace(self, true=self.true[drawn], predicted=self.predicted[drawn], texts=sample[drawn])
            for sample, drawn in zip(samples, samples > 0, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Every figure as plain JSON values."""
        rows = zip(self.labels, self.precision, self.recall, self.f1, self.with_class, strict=True)
        return {
            "texts": int(self.texts.sum()),
            "accuracy": self.accuracy,
            "micro_f1": self.micro_f1,
            "macro_precision": self.macro(self.precision),
            "macro_recall": self.macro(self.recall),
            "macro_f1": self.macro_f1,
            "per_class": {
                label: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "texts": int(texts)}
                for label, precision, recall, f1, texts in rows
            },
        }


@dataclass(frozen=True)
class Confusion(Tally):
    """One label a text: true and predicted are (P,) places in labels, each pair that occurs once.

    So memory grows with the texts, not with C * C.
    """

    true: NDArray[np.int64]
    predicted: NDArray[np.int64]

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
        return float(self.hits.sum() / max(1, self.texts.sum()))

    @property
    def hits(self) -> NDArray[np.int64]:
        """(C,): texts whose class was found."""
        right = self.true == self.predicted
        return self._sum(self.true[right], self.texts[right])

    @property
    def with_class(self) -> NDArray[np.int64]:
        """(C,): texts that have the class."""
        return self._sum(self.true, self.texts)

    @property
    def given_class(self) -> NDArray[np.int64]:
        """(C,): texts that were given the class."""
        return self._sum(self.predicted, self.texts)

    def macro(self, values: NDArray[np.float64]) -> float:
        """The mean over the classes that are true or predicted at least once, as scikit-learn takes it.

        Args:
            values: (C,).
        """
        present = self.given_class + self.with_class > 0
        return float(values[present].mean()) if present.any() else 0.0

    def worst_pairs(self, most: int) -> list[tuple[str, str, int]]:
        """The pairs confused most often: true label, predicted label, texts; at most `most` of them."""
        (wrong,) = np.nonzero(self.true != self.predicted)
        order = wrong[np.argsort(-self.texts[wrong], kind="stable")][:most]
        return [
            (self.labels[self.true[pair]], self.labels[self.predicted[pair]], int(self.texts[pair])) for pair in order
        ]

    def to_json(self) -> dict[str, Any]:
        """Every figure as plain JSON values, the matrix too."""
        return {**super().to_json(), "confusion": {"labels": list(self.labels), "counts": self.counts.tolist()}}

    def _sum(self, places: NDArray[np.int64], texts: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(places, weights=texts, minlength=len(self.labels)).astype(np.int64)


@dataclass(frozen=True)
class LabelSets(Tally):
    """Several labels a text or none: true and predicted are (N, C) bool."""

    true: NDArray[np.bool_]
    predicted: NDArray[np.bool_]

    @classmethod
    def of(
        cls, labels: Sequence[str], true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
    ) -> "LabelSets":
        """From the labels of each text, all of which must be in labels."""
        place = {label: index for index, label in enumerate(labels)}
        sides = []
        for side in (true, predicted):
            has = np.zeros((len(side), len(labels)), dtype=np.bool_)
            for row, several in zip(has, side, strict=True):
                row[[place[label] for label in several]] = True
            sides.append(has)
        return cls.of_rows(labels, *sides)

    @classmethod
    def of_rows(cls, labels: Sequence[str], true: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> "LabelSets":
        """From (N, C) each."""
        return cls(tuple(labels), true, predicted, np.ones(len(true), dtype=np.int64))

    @property
    def accuracy(self) -> float:
        """The share of texts whose labels were all found, and no others: exact match."""
        exact = (self.true == self.predicted).all(axis=1)
        return float(self.texts[exact].sum() / max(1, self.texts.sum()))

    @property
    def hits(self) -> NDArray[np.int64]:
        """(C,): texts that have the label and were given it."""
        return self.texts @ (self.true & self.predicted)

    @property
    def with_class(self) -> NDArray[np.int64]:
        """(C,): texts that have the label."""
        return self.texts @ self.true

    @property
    def given_class(self) -> NDArray[np.int64]:
        """(C,): texts that were given the label."""
        return self.texts @ self.predicted

    def macro(self, values: NDArray[np.float64]) -> float:
        """The mean over all labels, as scikit-learn takes it with zero_division=0.

        Args:
            values: (C,).
        """
        return float(values.mean())


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Part over whole; 0 where the whole is 0."""
    ratio: NDArray[np.float64] = part / np.maximum(1, whole)
    return ratio
