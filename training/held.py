"""The validation part of texts in the cache: the rows that training.data.split would hold back, found without lists."""

import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nlp_app.errors import DataError
from training.cached_texts import CachedTexts
from training.sampled import Numbers

MOST_HELD = 20_000
"""Texts of which a score has a standard error of 0.2 points or less; more would be time and memory for nothing."""
NO_LABEL = -1


def held_rows(texts: CachedTexts, *, share: float, seed: int) -> Numbers:
    """The rows held back, ascending: those of training.data.split where its part has no more than MOST_HELD texts.

    Raises:
        DataError: no text can be spared.
    """
    draw = random.Random(seed)
    share = min(share, MOST_HELD / len(texts))
    counts = texts.label_counts
    staying = np.array([counts[label] for label in texts.labels])
    groups = rarest_codes(texts)
    sizes = {code: size for code, size in _sizes(groups) if size}
    names = {code: "" if code == NO_LABEL else texts.labels[code] for code in sizes}
    shared = sorted((name, code) for code, name in names.items() if sizes[code] > 1)
    held: set[int] = set()
    owed = 0.0
    for _, code in draw.sample(shared, len(shared)):
        owed += share * sizes[code]
        count = max(0, min(round(owed), sizes[code] - 1))
        rows = np.flatnonzero(groups == code) if count else np.zeros(0, dtype=np.int64)
        for place in draw.sample(range(sizes[code]), count):
            codes = texts.codes(row := int(rows[place]))
            if (staying[codes] > 1).all():
                held.add(row)
                staying[codes] -= 1
                owed -= 1
    if not held:
        held.add(_spare(texts, groups, names, draw))
    return np.array(sorted(held), dtype=np.int64)


def rarest_codes(texts: CachedTexts) -> NDArray[np.int32]:
    """(N,) the code of the rarest label of each row, NO_LABEL where it has none."""
    if not texts.multi_label:
        return np.concatenate(texts.flat)
    counts = texts.label_counts
    order = sorted(range(len(texts.labels)), key=lambda code: (counts[texts.labels[code]], texts.labels[code]))
    by_rank = np.array([*order, NO_LABEL], dtype=np.int32)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order))
    return np.concatenate([by_rank[ranks] for ranks in _lowest(texts, rank)])


def _lowest(texts: CachedTexts, rank: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
    """Of each table, the lowest rank among the labels of each row; as many as there are ranks where it has none."""
    for flat, ends in zip(texts.flat, texts.ends, strict=True):
        lowest = np.full(len(ends) - 1, len(rank), dtype=np.int32)
        filled = np.flatnonzero(ends[1:] > ends[:-1])
        if len(filled):
            lowest[filled] = np.minimum.reduceat(rank[flat], ends[filled])
        yield lowest


def _sizes(groups: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """The code of each group, and its rows."""
    for place, size in enumerate(np.bincount(groups + 1).tolist()):
        yield place - 1, size


def _spare(texts: CachedTexts, groups: NDArray[np.int32], names: dict[int, str], draw: random.Random) -> int:
    """A row of the label that has most rows to spare, where the share gave none."""
    counts = texts.label_counts
    several = np.array([counts[label] > 1 for label in texts.labels])
    spare: list[int] = []
    for code in sorted(names, key=lambda code: names[code]):
        rows = [row for row in np.flatnonzero(groups == code).tolist() if several[texts.codes(row)].all()]
        spare = max(spare, rows, key=len)
    if not spare:
        raise DataError(f"{texts.path}: every text is the only one of a label: give at least one label a second text")
    return draw.choice(spare)
