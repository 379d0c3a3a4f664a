"""Logits to probabilities, as arrays: the last step of every answer, whatever computed the logits."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nlp_app.encoding import Encoded

Floats = NDArray[np.float32]
Ask = Callable[[Sequence[Encoded]], tuple[Floats, Floats]]
"""Gives the logits of N texts, (N, C), and how familiar each is, (N,): the share of its n-grams that training saw."""


def to_probabilities(logits: Floats, *, multi_label: bool) -> Floats:
    """(N, C) -> (N, C): of one label each, which sum to 1; or of each label by itself."""
    if multi_label:
        with np.errstate(over="ignore"):  # 1 / (1 + inf) is 0, as it should be
            found: Floats = np.reciprocal(1 + np.exp(-logits))
            return found
    exponentials: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials
