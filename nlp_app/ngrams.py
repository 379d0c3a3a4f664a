"""N-grams of words, of characters and of shapes, hashed into slots: what the linear branch of a TextClassifier reads.

Words are counted alone, in pairs, and in pairs with one word between them; characters in runs of the orders that the
config names, a space at most at either end (scikit-learn's char_wb). A word's shape says whether it is capitalised, in
capitals, a number: "who is Xx" asks for a person, "what is x" for a definition. Everything is done for many texts
at once, by array operations: no Python code runs for a single n-gram.
"""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlp_app.characters import ALONE, DIGIT, LETTER, SPACE, SYMBOL, UPPER, kinds, lower

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
    """(B,) int64, where each text begins."""

    def texts(self) -> Tensor:
        """(G,) int64, the text of each n-gram."""
        lengths = torch.diff(self.offsets, append=self.offsets.new_tensor([len(self.slots)]))
        texts = torch.arange(len(lengths), device=lengths.device)
        return texts.repeat_interleave(lengths, output_size=len(self.slots))

    def to(self, device: torch.device) -> "NgramBatch":
        """The same on another device."""
        return NgramBatch(*(tensor.to(device) for tensor in self))


class Found(NamedTuple):
    """N-grams where they stand, those that are kept and those that are not."""

    slots: NDArray[np.uint32]
    """(M,)"""
    at: NDArray[np.int64]
    """(M,) the character, or the word, that each begins at."""
    keep: NDArray[np.bool_]
    """(M,) False where it would reach over the end of a word or a text."""
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
    of_words = [_placed(one, numbers) for one in word_ngrams(words, bits)]
    numbers = np.where(kind == SPACE, -1, np.arange(len(kind)) - 1)
    found = character_ngrams(lowered, kind != SPACE, char_orders, bits) if char_orders else []
    return Placed(of_words, [_placed(one, numbers) for one in found], np.stack([starts, stops], axis=1) - 1)


def join(ngrams: Sequence[Ngrams]) -> NgramBatch:
    """Texts into a batch."""
    ends = np.cumsum([len(text.slots) for text in ngrams])
    return NgramBatch(
        torch.from_numpy(np.concatenate([text.slots for text in ngrams])),
        torch.from_numpy(np.concatenate([text.counts for text in ngrams])),
        torch.from_numpy(np.concatenate([[0], ends[:-1]])),
    )


def clean(text: str) -> str:
    """NFKC, as the tokenizers do, and one space for each run of white space."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFKC", text)).split())


def _count(texts: Sequence[str], bits: int, char_orders: Sequence[int]) -> list[Ngrams]:
    padded = [f" {clean(text)} " for text in texts]
    lowered, kind = _read("".join(padded))
    ends = np.cumsum([len(text) for text in padded])
    owners = np.repeat(np.arange(len(texts), dtype=np.uint32), [len(text) for text in padded])
    words = split_words(lowered, kind, ends)
    found = [(words.owners.astype(np.uint32), one) for one in word_ngrams(words, bits)]
    if char_orders:
        found += [(owners, one) for one in character_ngrams(lowered, kind != SPACE, char_orders, bits)]
    keys = np.concatenate([(owner[one.at] << np.uint32(bits) | one.slots)[one.keep] for owner, one in found])
    keys.sort()
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    counts = np.diff(first, append=len(keys)).astype(np.float32)
    keys = keys[first]
    starts = np.searchsorted(keys, np.arange(1, len(texts), dtype=np.uint32) << np.uint32(bits))
    slots = (keys & np.uint32((1 << bits) - 1)).astype(np.int32)
    return [Ngrams(*both) for both in zip(np.split(slots, starts), np.split(counts, starts), strict=True)]


def _read(text: str) -> tuple[Hashes, NDArray[np.uint8]]:
    """The characters of a text in lower case, and their kinds."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    return lower(codes), kinds(codes)


def _placed(found: Found, numbers: NDArray[np.int64]) -> Places:
    """By the numbers of the units."""
    at = found.at[found.keep]
    return Places(found.slots[found.keep], numbers[at[:, None] + np.array(found.covers)])


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


def word_ngrams(words: Words, bits: int) -> list[Found]:
    """Words, pairs of neighbours, pairs with one word between; then words and neighbours with a shape."""
    hashes, shapes, owners = words
    at, no_edge = np.arange(len(hashes)), hashes != EDGE
    found = [Found(_slots(hashes, 1, WORDS, bits), at, no_edge, (0,))]
    for apart in (1, 2):
        pairs, same = hashes[:-apart] * STEP + hashes[apart:], owners[:-apart] == owners[apart:]
        found.append(Found(_slots(pairs, 1 + apart, WORDS, bits), at[:-apart], same, (0, apart)))
    same = found[1].keep
    found.append(Found(_slots(hashes * STEP + shapes, 4, SHAPES, bits), at, no_edge, (0,)))
    found.append(Found(_slots(hashes[:-1] * STEP + shapes[1:], 5, SHAPES, bits), at[:-1], same, (0, 1)))
    found.append(Found(_slots(hashes[1:] * STEP + shapes[:-1], 6, SHAPES, bits), at[:-1], same, (0, 1)))
    return found


def character_ngrams(codes: Hashes, inside: NDArray[np.bool_], char_orders: Sequence[int], bits: int) -> list[Found]:
    """Runs of characters that hold no space but at their ends.

    Args:
        codes: (N,) lower-cased characters of all texts, a space before and after each text.
        inside: (N,) False where a space is.
        char_orders: lengths, ascending, without a gap.
        bits: of the slots.
    """
    hashed, whole, found = codes, np.ones(len(codes), dtype=bool), []
    at = np.arange(len(codes))
    for order in range(2, max(char_orders) + 1):
        hashed = hashed[:-1] * STEP + codes[order - 1 :]
        # A space may open or close the run: with the next character, the one that closed it would be inside.
        whole = whole[:-1] & (inside[order - 2 : -1] if order > 2 else inside[:-1] | inside[1:])
        if order >= min(char_orders):
            found.append(Found(_slots(hashed, 8 + order, CHARACTERS, bits), at[: len(hashed)], whole, range(order)))
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
    digits, capitals = (
        np.diff(np.concatenate([[0], np.cumsum(kind == one)])[np.stack([starts, stops])], axis=0)[0]
        for one in (DIGIT, UPPER)
    )
    conditions = [digits == length, digits > 0, (capitals == length) & (length > 1), kind[starts] == UPPER]
    shapes: Hashes = np.select(conditions, [10 + np.minimum(length, 4), 20, 21, 22], 23).astype(np.uint32)
    return shapes


def _mixed(hashed: Hashes) -> Hashes:
    """Every bit of the result depends on every bit (two rounds of multiply and shift)."""
    mixed = (hashed ^ (hashed >> np.uint32(16))) * np.uint32(0x7FEB352D)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x846CA68B)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def _slots(hashed: Hashes, seed: int, quarter: int, bits: int) -> Hashes:
    """The slot of each hash within its part: two quarters for words, one for the others."""
    own = bits - 1 if quarter == WORDS else bits - 2
    mixed = (hashed + np.uint32(seed * 0x85EBCA6B & 0xFFFFFFFF)) * STEP
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    mixed >>= np.uint32(32 - own)
    return mixed + np.uint32(quarter << (bits - 2)) if quarter else mixed
