"""The standard error of a validation score: how far it would move with other texts of the same kind."""

import math

import numpy as np
from numpy.typing import NDArray

from training.metrics import Confusion

RESAMPLINGS = 200


def standard_error(measure: str, losses: NDArray[np.float32], confusion: Confusion) -> float:
    """In units of the score.

    Args:
        measure: loss: the standard deviation over the root of N; accuracy: sqrt(p (1 - p) / N), the binomial's;
            macro-f1, which has no formula: the spread over RESAMPLINGS bootstrap samples (Efron 1979), always the same.
        losses: (N,) of each text.
        confusion: of the same texts.
    """
    texts = len(losses)
    if measure == "loss":
        return float(losses.std(ddof=1) / math.sqrt(texts)) if texts > 1 else 0.0
    if measure == "accuracy":
        return math.sqrt(confusion.accuracy * (1 - confusion.accuracy) / texts)
    draw = np.random.default_rng(0)
    samples = draw.multinomial(texts, confusion.texts / texts, size=RESAMPLINGS)
    return float(np.std([_resampled(confusion, sample).macro_f1 for sample in samples], ddof=1))


def _resampled(confusion: Confusion, texts: NDArray[np.int64]) -> Confusion:
    drawn = texts > 0
    return Confusion(confusion.labels, confusion.true[drawn], confusion.predicted[drawn], texts[drawn])
