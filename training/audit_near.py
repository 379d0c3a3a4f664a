"""Near duplicates: MinHash over runs of 5 characters, candidates by LSH, each seen to by its true Jaccard index.

Broder, "On the resemblance and containment of documents", 1997. Of a text of more than LONG characters an eighth of the
runs is read, the same eighth of every text.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlp_app.errors import DataError
from training.audit_copies import grouped, normalised
from training.audit_findings import Finding, Part, texts

RUN, LONG, EVERY = 5, 512, 8
PERMUTATIONS = 64
NEAR, CANDIDATES = 0.6, 0.5
"""The index from which texts are near duplicates, and that which LSH looks for: it misses few of the former so."""
MOST_CANDIDATES = 20
Runs = NDArray[np.uint64]


def check_near(parts: Sequence[Part], most: int) -> Iterator[Finding]:
    """Near duplicates in the first part, and of the others in it; those that are the same but for case are not counted.

    Raises:
        DataError: datasketch is missing.
    """
    train, *others = parts
    index = Index()
    firsts = [rows[0] for rows in grouped(train).values()]
    found = [(row, twin) for row in firsts if (twin := index.add(row, train.texts[row])) is not None]
    if found:
        apart = sum(train.labels[row] != train.labels[twin] for row, twin in found)
        yield Finding(
            name="near-duplicates", severity="low", count=len(found), of=len(train),
            what=f"{texts(len(found))} of {train.name} nearly stand there before, {apart:,} with another label",
            advice="look at those with another label",
            examples=[
                train.example(row, f"near {train.places[twin]} ({', '.join(train.labels[twin])})")
                for row, twin in sorted(found, key=lambda pair: train.labels[pair[0]] == train.labels[pair[1]])[:most]
            ],
            details={"other_label": apart},
        )  # fmt: skip
    known = set(map(normalised, train.texts)) if others else set()
    for part in others:
        near = [
            (row, twin)
            for row, text in enumerate(part.texts)
            if normalised(text) not in known and (twin := index.find(text)) is not None
        ]
        if near:
            yield Finding(
                name=f"near-leaks-{part.name}", severity="medium", count=len(near), of=len(part),
                what=f"{texts(len(near))} of {part.name} nearly stand in {train.name}",
                advice="texts made from one template? then split by template, or the score flatters",
                examples=[part.example(row, f"near {train.places[twin]}") for row, twin in near[:most]],
            )  # fmt: skip


class Index:
    """Texts by their runs of characters."""

    def __init__(self) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError:
            raise DataError("near duplicates need datasketch: pip install 'nlp_app[audit]'") from None
        self._make: Any = MinHash
        self._empty = MinHash(num_perm=PERMUTATIONS, hashfunc=_same)
        self._lsh: Any = MinHashLSH(threshold=CANDIDATES, num_perm=PERMUTATIONS)
        self._runs: dict[int, Runs] = {}

    def add(self, row: int, text: str) -> int | None:
        """Take a text in; gives the row of one that was there and is near it."""
        runs = runs_of(text)
        sketch = self._sketch(runs)
        candidates = self._candidates(sketch)
        twin = self._near(candidates, runs)
        if twin is None or len(candidates) < MOST_CANDIDATES:  # else nothing would be found by it
            self._lsh.insert(row, sketch, check_duplication=False)
            self._runs[row] = runs
        return twin

    def find(self, text: str) -> int | None:
        """The row of a text that is near this one."""
        runs = runs_of(text)
        return self._near(self._candidates(self._sketch(runs)), runs)

    def _sketch(self, runs: Runs) -> Any:
        sketch = self._empty.copy()
        sketch.update_batch(runs.tolist())
        return sketch

    def _candidates(self, sketch: Any) -> list[int]:
        found: list[int] = sorted(self._lsh.query(sketch))[:MOST_CANDIDATES]
        return found

    def _near(self, candidates: Sequence[int], runs: Runs) -> int | None:
        return next((row for row in candidates if jaccard(runs, self._runs[row]) >= NEAR), None)


def _same(value: int) -> int:
    return value


def runs_of(text: str) -> Runs:
    """The hashes of a text's runs of characters, each once, sorted."""
    codes = np.frombuffer(f"  {normalised(text)}  ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(
        np.uint64
    )
    hashed = np.zeros(len(codes) - RUN + 1, dtype=np.uint64) if len(codes) >= RUN else codes[:1].copy()
    for place in range(RUN if len(codes) >= RUN else 0):
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + codes[place : len(codes) - RUN + 1 + place]
    hashed = (hashed ^ (hashed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    hashed >>= np.uint64(32)
    some = hashed[hashed % EVERY == 0] if len(codes) > LONG else hashed
    found: Runs = np.unique(some if len(some) else hashed)
    return found


def jaccard(first: Runs, other: Runs) -> float:
    """What they share of what either has."""
    both = len(np.intersect1d(first, other, assume_unique=True))
    return both / (len(first) + len(other) - both)
