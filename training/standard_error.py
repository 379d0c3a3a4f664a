"""The standard error of a validation score: how far it would move with other texts of the same kind."""

import math

import numpy as np
from numpy.typing import NDArray

from training.metrics import Tally

RESAMPLINGS = 200


def standard_error(measure: str, losses: NDArray[np.float32], tally: Tally) -> float:
    """In units of the score.

    Args:
        measure: loss: the standard deviation over the root of N; accuracy: sqrt(p (1 - p) / N), the binomial's;
            macro-f1, which has no formula: the spread over RESAMPLINGS bootstrap samples (Efron 1979), always the same.
        losses: (N,) of each text.
        tally: of the same texts.
    """
    texts = len(losses)
    if measure == "loss":
        return float(losses.std(ddof=1) / math.sqrt(texts)) if texts > 1 else 0.0
    if measure == "accuracy":
        return math.sqrt(tally.accuracy * (1 - tally.accuracy) / texts)
    return float(np.std([sample.macro_f1 for sample in tally.resampled(RESAMPLINGS)], ddof=1))
