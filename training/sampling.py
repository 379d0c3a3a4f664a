"""Which texts an epoch takes where classes are drawn more evenly than they occur."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

POWERS = {"none": 1.0, "balanced": 0.0, "sqrt": 0.5}
"""Of a class's number of texts, to which its share of an epoch is proportional."""
SAMPLINGS = tuple(POWERS)
NONE = SAMPLINGS[0]


def shares(targets: Tensor, sampling: str) -> NDArray[np.float64] | None:
    """What share of an epoch each text is, (N,); None where each is taken once.

    Args:
        targets: (N,) int64.
        sampling: of SAMPLINGS.
    """
    if sampling == NONE:
        return None
    counts = torch.bincount(targets).double()
    each: Tensor = (counts ** (POWERS[sampling] - 1))[targets]
    found: NDArray[np.float64] = (each / each.sum()).numpy()
    return found


def take(draw: np.random.Generator, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """N rows, in random order: each as often as its share of N, rounded up or down by chance.

    Systematic sampling, as texts that are drawn one by one would leave a third of a balanced set out of each epoch.
    """
    rows = draw.permutation(len(shares))
    ends = len(rows) * np.cumsum(shares[rows])
    ends[-1] = len(rows)  # whatever the sum was rounded to
    times = np.diff(np.floor(ends + draw.random()), prepend=0).astype(np.int64)
    return draw.permutation(np.repeat(rows, times))
