"""N-grams of words, of characters and of shapes, hashed into slots: what the linear branch of a TextClassifier reads.

Words are counted alone, in pairs, and in pairs with one word between them; characters in runs of the orders that the
config names, a space at most at either end (scikit-learn's char_wb). A word's shape says whether it is capitalised, in
capitals, a number: "who is Xx" asks for a person, "what is x" for a definition. Everything is done for many texts
at once, by array operations: no Python code runs for a single n-gram.
"""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlp_app.characters import ALONE, DIGIT, LETTER, SPACE, SYMBOL, UPPER, kinds, lower, nfkc

Hashes = NDArray[np.uint32]

# The multiplier of a polynomial hash, and its inverse modulo 2^32.
STEP = np.uint32(0x9E3779B1)
BACK = np.uint32(pow(0x9E3779B1, -1, 1 << 32))
EDGE = np.uint32(1)
"""The hash of what stands before the first and after the last word of a text: so a pair can say "at the start"."""
WORDS, CHARACTERS, SHAPES = 0, 2, 3
"""The quarter of the slots in which each part begins: words have two. Each part of a text is scaled to length 1."""
TEXTS_AT_ONCE = 64
"""Enough to hide the calls of the array library, few enough for the cache."""


class Ngrams(NamedTuple):
    """The distinct n-grams of one text."""

    slots: NDArray[np.int32]
    """(G,) ascending."""
    counts: NDArray[np.float32]
    """(G,) how often each occurs."""


NONE = Ngrams(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))


class Places(NamedTuple):
    """Where the N n-grams of one kind stand in a text, each as often as it occurs."""

    slots: Hashes
    """(N,) in the order of the text."""
    units: NDArray[np.int64]
    """(N, W) the numbers of the words, or of the characters of clean(text), that each is made of; -1: none."""


class Placed(NamedTuple):
    """The n-grams of a text where they stand."""

    of_words: list[Places]
    of_characters: list[Places]
    spans: NDArray[np.int64]
    """(W, 2) the first character of each word in clean(text), and the one after its last."""


class NgramBatch(NamedTuple):
    """The n-grams of B texts, one after the other."""

    slots: Tensor
    """(G,) int32."""
    counts: Tensor
    """(G,) float32."""
    offsets: Tensor
    """(B,) int32, where each text begins."""
    texts: Tensor
    """(G,) int32, the text of each n-gram."""

    def to(self, device: torch.device) -> "NgramBatch":
        """The same on another device."""
        return NgramBatch(*(tensor.to(device) for tensor in self))


class Found(NamedTuple):
    """N-grams of one kind where they stand: number m begins at character, or word, m."""

    hashes: Hashes
    """(M,)"""
    keep: NDArray[np.bool_]
    """(M,) False where it would reach over the end of a word or a text."""
    part: int
    """WORDS, CHARACTERS or SHAPES."""
    covers: Sequence[int]
    """The characters, or the words, that it is made of, counted from the one that it begins at."""


class Words(NamedTuple):
    """The words of texts one after the other, with an edge before and after those of each text."""

    hashes: Hashes
    """(W,)"""
    shapes: Hashes
    """(W,)"""
    owners: NDArray[np.int64]
    """(W,) the text of each."""


def count_ngrams(texts: Sequence[str], *, num_slots: int, char_orders: Sequence[int]) -> list[Ngrams]:
    """Count the n-grams of texts.

    Args:
        texts: any number of them.
        num_slots: a power of two, at most 2^24.
        char_orders: lengths in characters, ascending, without a gap; none of them: no n-grams of characters.
    """
    counted: list[Ngrams] = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        counted += _count(texts[start : start + TEXTS_AT_ONCE], num_slots.bit_length() - 1, char_orders)
    return counted


def place_ngrams(text: str, *, num_slots: int, char_orders: Sequence[int]) -> Placed:
    """Find where the n-grams that count_ngrams counts in a text stand."""
    bits = num_slots.bit_length() - 1
    lowered, kind = _read(f" {clean(text)} ")
    starts, stops = word_spans(kind)
    words = split_words(lowered, kind, np.array([len(kind)]))
    numbers = np.pad(np.arange(len(starts)), 1, constant_values=-1)
    of_words = [_placed(one, numbers, bits) for one in word_ngrams(words)]
    numbers = np.where(kind == SPACE, -1, np.arange(len(kind)) - 1)
    found = character_ngrams(lowered, kind != SPACE, char_orders) if char_orders else []
    return Placed(of_words, [_placed(one, numbers, bits) for one in found], np.stack([starts, stops], axis=1) - 1)


def join(ngrams: Sequence[Ngrams]) -> NgramBatch:
    """Texts into a batch."""
    lengths = np.array([len(text.slots) for text in ngrams])
    arrays = (
        np.concatenate([text.slots for text in ngrams]),
        np.concatenate([text.counts for text in ngrams]),
        (lengths.cumsum() - lengths).astype(np.int32),
        np.arange(len(ngrams), dtype=np.int32).repeat(lengths),
    )
    return NgramBatch(*map(torch.from_numpy, arrays))


def clean(text: str) -> str:
    """NFKC, and one space for each run of white space."""
    return " ".join(nfkc(text).split())


def _count(texts: Sequence[str], bits: int, char_orders: Sequence[int]) -> list[Ngrams]:
    padded = [f" {clean(text)} " for text in texts]
    lowered, kind = _read("".join(padded))
    ends = np.cumsum([len(text) for text in padded])
    owners = np.repeat(np.arange(len(texts), dtype=np.uint32), [len(text) for text in padded])
    words = split_words(lowered, kind, ends)
    found = word_ngrams(words)
    of_words = [words.owners.astype(np.uint32)] * len(found)
    if char_orders:
        found += character_ngrams(lowered, kind != SPACE, char_orders)
    of_all = [*of_words, *[owners] * (len(found) - len(of_words))]
    keep = np.concatenate([one.keep for one in found])
    texts_of = np.concatenate([owner[: len(one.keep)] for owner, one in zip(of_all, found, strict=True)])[keep]
    keys = texts_of << np.uint32(bits) | _slots(found, keep, bits)
    keys.sort()
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    counts = np.diff(first, append=len(keys)).astype(np.float32)
    keys = keys[first]
    bounds = np.searchsorted(keys, np.arange(1, len(texts), dtype=np.uint32) << np.uint32(bits)).tolist()
    slots = (keys & np.uint32((1 << bits) - 1)).astype(np.int32)
    spans = pairwise([0, *bounds, len(keys)])  # slices: np.split takes ten times as long
    return [Ngrams(slots[start:stop], counts[start:stop]) for start, stop in spans]


def _read(text: str) -> tuple[Hashes, NDArray[np.uint8]]:
    """The characters of a text in lower case, and their kinds."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    return lower(codes), kinds(codes)


def _placed(found: Found, numbers: NDArray[np.int64], bits: int) -> Places:
    """By the numbers of the units."""
    at = np.flatnonzero(found.keep)
    return Places(_slots([found], found.keep, bits), numbers[at[:, None] + np.array(found.covers)])


def split_words(codes: Hashes, kind: NDArray[np.uint8], ends: NDArray[np.int64]) -> Words:
    """Find the words of texts: runs of letters and digits, symbols, and letters of scripts without spaces.

    Args:
        codes: (N,) lower-cased characters of all texts, a space before and after each text.
        kind: (N,) their kinds.
        ends: (B,) where each text ends.
    """
    starts, stops = word_spans(kind)
    owners = np.searchsorted(ends, starts, side="right")
    places = np.arange(len(starts)) + 2 * owners + 1
    both = np.full((2, len(starts) + 2 * len(ends)), EDGE)
    both[0, places] = _mixed(_spans(codes, starts, stops))
    both[1, places] = np.where(kind[starts] == SYMBOL, both[0, places], _mixed(_shapes(kind, starts, stops)))
    return Words(both[0], both[1], np.repeat(np.arange(len(ends)), np.bincount(owners, minlength=len(ends)) + 2))


def word_spans(kind: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first character of each word and the one after its last; the first and the last character are spaces."""
    inside = kind >= LETTER
    single = (kind == SYMBOL) | (kind == ALONE)
    starts = np.flatnonzero(single[1:] | (inside[1:] & ~inside[:-1])) + 1
    stops = np.flatnonzero(single[:-1] | (inside[:-1] & ~inside[1:])) + 1
    return starts, stops


def word_ngrams(words: Words) -> list[Found]:
    """Words, pairs of neighbours, pairs with one word between; then words and neighbours with a shape."""
    hashes, shapes, owners = words
    no_edge, stepped = hashes != EDGE, hashes * STEP
    neighbours, apart = owners[:-1] == owners[1:], owners[:-2] == owners[2:]
    return [
        Found(_seeded(hashes, 1), no_edge, WORDS, (0,)),
        Found(_seeded(stepped[:-1] + hashes[1:], 2), neighbours, WORDS, (0, 1)),
        Found(_seeded(stepped[:-2] + hashes[2:], 3), apart, WORDS, (0, 2)),
        Found(_seeded(stepped + shapes, 4), no_edge, SHAPES, (0,)),
        Found(_seeded(stepped[:-1] + shapes[1:], 5), neighbours, SHAPES, (0, 1)),
        Found(_seeded(stepped[1:] + shapes[:-1], 6), neighbours, SHAPES, (0, 1)),
    ]


def character_ngrams(codes: Hashes, inside: NDArray[np.bool_], char_orders: Sequence[int]) -> list[Found]:
    """Runs of characters that hold no space but at their ends.

    Args:
        codes: (N,) lower-cased characters of all texts, a space before and after each text.
        inside: (N,) False where a space is.
        char_orders: lengths, ascending, without a gap.
    """
    hashed, whole, found = codes, np.ones(len(codes), dtype=bool), []
    for order in range(2, max(char_orders) + 1):
        hashed = hashed[:-1] * STEP + codes[order - 1 :]
        # A space may open or close the run: with the next character, the one that closed it would be inside.
        whole = whole[:-1] & (inside[order - 2 : -1] if order > 2 else inside[:-1] | inside[1:])
        if order >= min(char_orders):
            found.append(Found(_seeded(hashed, 8 + order), whole, CHARACTERS, range(order)))
    return found


def _spans(codes: Hashes, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Hashes:
    """The polynomial hash of each run of characters, a difference of two sums brought back to the run's beginning."""
    powers = np.cumprod(np.full(len(codes), STEP), dtype=np.uint32)
    sums = np.concatenate([[np.uint32(0)], np.cumsum(codes * powers, dtype=np.uint32)])
    back = np.cumprod(np.full(len(codes), BACK), dtype=np.uint32)
    found: Hashes = (sums[stops] - sums[starts]) * back[starts]
    return found


def _shapes(kind: NDArray[np.uint8], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Hashes:
    """Of each word: 1 to 4 digits or more, letters with digits, all capitals, capitalised, other."""
    length = stops - starts
    sums = np.zeros((2, len(kind) + 1), dtype=np.int32)
    np.cumsum(kind == DIGIT, out=sums[0, 1:])
    np.cumsum(kind == UPPER, out=sums[1, 1:])
    digits, capitals = sums[:, stops] - sums[:, starts]
    shapes = np.where(kind[starts] == UPPER, 22, 23)
    shapes = np.where((capitals == length) & (length > 1), 21, shapes)
    shapes = np.where(digits > 0, np.where(digits == length, 10 + np.minimum(length, 4), 20), shapes)
    return shapes.astype(np.uint32)


def _mixed(hashed: Hashes) -> Hashes:
    """Every bit of the result depends on every bit (two rounds of multiply and shift)."""
    mixed = (hashed ^ (hashed >> np.uint32(16))) * np.uint32(0x7FEB352D)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x846CA68B)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def _seeded(hashes: Hashes, seed: int) -> Hashes:
    """Apart from the n-grams of another kind that are made of the same."""
    return hashes + np.uint32(seed * 0x85EBCA6B & 0xFFFFFFFF)


def _slots(found: Sequence[Found], keep: NDArray[np.bool_], bits: int) -> Hashes:
    """The slots of the n-grams that are kept, one kind after the other, those of words first: (M,)."""
    mixed = np.concatenate([one.hashes for one in found])[keep] * STEP
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    start = 0
    for part, kinds_of_part in groupby(found, key=lambda one: one.part):
        stop = start + sum(int(np.count_nonzero(one.keep)) for one in kinds_of_part)
        mixed[start:stop] >>= np.uint32(32 - (bits - 1 if part == WORDS else bits - 2))
        mixed[start:stop] |= np.uint32(part << (bits - 2))
        start = stop
    return mixed
