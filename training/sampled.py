"""Uniform samples of rows, always the same ones: what is fitted to many texts is fitted to a part of them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
SEED = 20_261_127
"""No option: another sample is no other run."""


def sample_rows(texts: int, *, most: int) -> Numbers:
    """So many row numbers of all, each set of them as likely as any other, in random order; all where there are fewer.

    Args:
        texts: N.
        most: of the sample.
    """
    draw = np.random.default_rng([SEED, texts])
    return draw.choice(texts, size=min(most, texts), replace=False)


def within(rows: Numbers, sizes_of: Callable[[Numbers], NDArray[np.int64]], most: int) -> Numbers:
    """The first of them whose sizes together are no more than this, in ascending order; one at least.

    Args:
        rows: in random order, or a few long texts at the head of a file would be all there is.
        sizes_of: gives the size of each.
        most: of all sizes together.
    """
    count = int(np.searchsorted(np.cumsum(sizes_of(rows)), most, side="right"))
    kept: Numbers = np.sort(rows[: max(1, count)])
    return kept
