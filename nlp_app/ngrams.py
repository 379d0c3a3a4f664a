"""N-grams of words, of characters and of shapes, hashed into slots: what the linear branch of a TextClassifier reads.

Words are counted alone, in pairs, and in pairs with one word between them; characters in runs of the orders that the
config names, a space at most at either end (scikit-learn's char_wb). A word's shape says whether it is capitalised, in
capitals, a number: "who is Xx" asks for a person, "what is x" for a definition. C counts them, a text at a time
(_ngrams.c); without it the same is done for many texts at once, by array operations. No Python code runs for an n-gram.
"""

from collections.abc import Sequence
from functools import cache
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nlp_app.characters import ALONE, DIGIT, LETTER, SPACE, SYMBOL, UPPER, look_up, nfkc

try:
    from nlp_app import _ngrams as _ngrams
except ImportError:  # no compiler was found when the project was installed
    _ngrams = None  # type: ignore[assignment]

Hashes = NDArray[np.uint32]

# The multiplier of a polynomial hash, and its inverse modulo 2^32.
STEP = np.uint32(0x9E3779B1)
BACK = np.uint32(pow(0x9E3779B1, -1, 1 << 32))
EDGE = np.uint32(1)
"""The hash of what stands before the first and after the last word of a text: so a pair can say "at the start"."""
WORDS, CHARACTERS, SHAPES = 0, 2, 3
"""The quarter of the slots in which each part begins: words have two. Each part of a text is scaled to length 1."""
SEEDS = np.arange(64, dtype=np.uint32) * np.uint32(0x85EBCA6B)
"""By the number of a kind of n-grams."""
DIGITS_AND_CAPITALS = np.zeros(DIGIT + 1, dtype=np.uint32)
"""By the kind of a character, so that one sum counts both; no word has 65,536 characters."""
DIGITS_AND_CAPITALS[[DIGIT, UPPER]] = 1, 1 << 16
POWERS_KEPT = 1 << 15
"""Of STEP and BACK, 256 KB: enough for some hundred short texts at once."""
A_WORD = 6
"""N-grams of words and shapes that begin at a word, at most."""
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
    bits = num_slots.bit_length() - 1
    if _ngrams is not None:
        return [count_compiled(text, bits, char_orders) for text in texts]
    starts = range(0, len(texts), TEXTS_AT_ONCE)
    return [one for start in starts for one in count_by_arrays(texts[start : start + TEXTS_AT_ONCE], bits, char_orders)]


def count_compiled(text: str, bits: int, char_orders: Sequence[int]) -> Ngrams:
    """As count_by_arrays, of one text, in a tenth of the time."""
    codes, kinds = look_up(f" {clean(text)} ")
    most = A_WORD * (len(kinds) + 2) + len(char_orders) * len(kinds)
    slots, counts = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.float32)
    lowest, highest = (char_orders[0], char_orders[-1]) if char_orders else (0, 0)
    found = _ngrams.count(codes, kinds, bits, lowest, highest, slots, counts)
    return Ngrams(slots[:found].copy(), counts[:found].copy())


def place_ngrams(text: str, *, num_slots: int, char_orders: Sequence[int]) -> Placed:
    """Find where the n-grams that count_ngrams counts in a text stand."""
    bits = num_slots.bit_length() - 1
    lowered, kind = look_up(f" {clean(text)} ")
    starts, stops = word_spans(kind)
    words = split_words(lowered, kind, np.array([len(kind)]))
    numbers = np.pad(np.arange(len(starts)), 1, constant_values=-1)
    of_words = [_placed(one, numbers, bits) for one in word_ngrams(words)]
    numbers = np.where(kind == SPACE, -1, np.arange(len(kind)) - 1)
    found = character_ngrams(lowered, kind != SPACE, char_orders) if char_orders else []
    return Placed(of_words, [_placed(one, numbers, bits) for one in found], np.stack([starts, stops], axis=1) - 1)


def clean(text: str) -> str:
    """NFKC, and one space for each run of white space."""
    return " ".join(nfkc(text).split())


def count_by_arrays(texts: Sequence[str], bits: int, char_orders: Sequence[int]) -> list[Ngrams]:
    """Count the n-grams of some texts in 2^bits slots, by array operations on all of them."""
    padded = [f" {clean(text)} " for text in texts]
    lowered, kind = look_up("".join(padded))
    lengths = np.array([len(text) for text in padded])
    words = split_words(lowered, kind, lengths.cumsum())
    found = word_ngrams(words)
    owners = [words.owners] * len(found)
    if char_orders:
        found += character_ngrams(lowered, kind != SPACE, char_orders)
        owners += [np.arange(len(texts)).repeat(lengths)] * (len(found) - len(owners))
    keep = np.concatenate([one.keep for one in found])
    keys = _slots(found, keep, bits)
    if len(texts) > 1:
        of_all = [owner[: len(one.keep)] for owner, one in zip(owners, found, strict=True)]
        keys |= np.concatenate(of_all)[keep].astype(np.uint32) << np.uint32(bits)
    keys.sort()
    first, counts = _runs(keys)
    keys = keys[first]
    bounds = keys.searchsorted(np.arange(1, len(texts), dtype=np.uint32) << np.uint32(bits)).tolist()
    slots = (keys & np.uint32((1 << bits) - 1)).astype(np.int32)
    spans = pairwise([0, *bounds, len(keys)])  # slices: np.split takes ten times as long
    return [Ngrams(slots[start:stop], counts[start:stop]) for start, stop in spans]


def _runs(keys: Hashes) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where each run of equal keys begins, and how long it is."""
    changes = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=changes[1:])
    first = changes.nonzero()[0]
    counts = np.empty(len(first), dtype=np.float32)
    counts[:-1] = first[1:] - first[:-1]
    counts[-1] = len(keys) - first[-1]
    return first, counts


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
    owners = ends.searchsorted(starts, side="right")
    firsts = kind.take(starts)
    mixed = _mixed(np.stack([_spans(codes, starts, stops), _shapes(kind, firsts, starts, stops)]))
    np.copyto(mixed[1], mixed[0], where=firsts == SYMBOL)
    both = np.full((2, len(starts) + 2 * len(ends)), EDGE)
    both[:, np.arange(1, len(starts) + 1) + 2 * owners] = mixed
    lengths = np.bincount(owners, minlength=len(ends)) + 2
    return Words(both[0], both[1], np.arange(len(ends)).repeat(lengths))


def word_spans(kind: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first character of each word and the one after its last; the first and the last character are spaces."""
    inside = kind >= LETTER
    single = kind - np.uint8(SYMBOL) <= ALONE - SYMBOL  # a space becomes 255
    starts = (single[1:] | (inside[1:] > inside[:-1])).nonzero()[0] + 1
    stops = (single[:-1] | (inside[:-1] > inside[1:])).nonzero()[0] + 1
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
    powers, back = _powers_kept() if len(codes) <= POWERS_KEPT else _powers(len(codes))
    sums = np.zeros(len(codes) + 1, dtype=np.uint32)
    (codes * powers[: len(codes)]).cumsum(dtype=np.uint32, out=sums[1:])
    found: Hashes = (sums[stops] - sums[starts]) * back[starts]
    return found


@cache
def _powers_kept() -> tuple[Hashes, Hashes]:
    return _powers(POWERS_KEPT)


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """STEP, STEP^2 … and the same of BACK."""
    return np.full(count, STEP).cumprod(dtype=np.uint32), np.full(count, BACK).cumprod(dtype=np.uint32)


def _shapes(
    kind: NDArray[np.uint8], firsts: NDArray[np.uint8], starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> Hashes:
    """Of each word: 1 to 4 digits or more, letters with digits, all capitals, capitalised, other."""
    sums = np.zeros(len(kind) + 1, dtype=np.uint32)
    DIGITS_AND_CAPITALS.take(kind).cumsum(dtype=np.uint32, out=sums[1:])
    counted = sums[stops] - sums[starts]
    length = stops - starts
    digits, capitals = counted & np.uint32(0xFFFF), counted >> np.uint32(16)
    shapes = np.where(firsts == UPPER, np.uint32(22), np.uint32(23))
    shapes[(capitals == length) & (length > 1)] = 21
    if digits.any():
        shapes = np.where(digits > 0, np.where(digits == length, 10 + np.minimum(length, 4), 20), shapes)
    return shapes.astype(np.uint32, copy=False)


def _mixed(hashed: Hashes) -> Hashes:
    """Every bit of the result depends on every bit (two rounds of multiply and shift)."""
    mixed = (hashed ^ (hashed >> np.uint32(16))) * np.uint32(0x7FEB352D)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x846CA68B)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def _seeded(hashes: Hashes, seed: int) -> Hashes:
    """Apart from the n-grams of another kind that are made of the same."""
    seeded: Hashes = hashes + SEEDS[seed]
    return seeded


def _slots(found: Sequence[Found], keep: NDArray[np.bool_], bits: int) -> Hashes:
    """The slots of the n-grams that are kept, one kind after the other, those of words first: (M,)."""
    mixed = np.concatenate([one.hashes for one in found])[keep] * STEP
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    start = begun = 0
    for part, kinds_of_part in groupby(found, key=lambda one: one.part):
        ended = begun + sum(len(one.keep) for one in kinds_of_part)
        stop = start + int(np.count_nonzero(keep[begun:ended]))
        mixed[start:stop] >>= np.uint32(32 - (bits - 1 if part == WORDS else bits - 2))
        mixed[start:stop] |= np.uint32(part << (bits - 2))
        start, begun = stop, ended
    return mixed
