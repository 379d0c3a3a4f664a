"""N-grams of words and characters, hashed into slots: what the linear branch of a TextClassifier reads of a text.

Words are counted alone, in pairs, and in pairs with one word between them; characters in runs of the orders that the
config names, a space at most at either end (scikit-learn's char_wb). Everything is done for a whole batch at once, by
array operations: no Python code runs for a single n-gram.
"""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint32]

# Odd numbers with well-mixed bits: the multiplier of a polynomial hash, one seed for each kind of n-gram, and the
# multiplier that brings a hash's entropy to its upper bits, of which the slot is made (Knuth's multiplicative hash).
STEP, SPREAD = np.uint32(0x01000193), np.uint32(0x9E3779B1)
SPACE = np.uint32(ord(" "))
BOUNDARY = np.uint32(0)
"""Stands before the first and after the last token of a text, so that a pair can say "at the start"."""


class Ngrams(NamedTuple):
    """The distinct n-grams of one text: words first, in the lower half of the slots, then characters."""

    slots: NDArray[np.int32]
    """(G,) ascending."""
    counts: NDArray[np.float32]
    """(G,) how often each occurs."""


NONE = Ngrams(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))


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


def count_ngrams(
    texts: Sequence[str], tokens: Sequence[NDArray[np.int32]], *, num_slots: int, char_orders: Sequence[int]
) -> list[Ngrams]:
    """Count the n-grams of texts.

    Args:
        texts: B texts.
        tokens: their B arrays of token ids, each of at least one.
        num_slots: a power of two; half of it is for words, half for characters.
        char_orders: lengths in characters, ascending, without a gap; none of them: no n-grams of characters.
    """
    bits = num_slots.bit_length() - 2
    owners, slots = _words(tokens, bits)
    if char_orders:
        of_characters = _characters(texts, range(min(char_orders), max(char_orders) + 1), bits)
        owners = np.concatenate([owners, of_characters[0]])
        slots = np.concatenate([slots, of_characters[1] + np.int64(1 << bits)])
    keys = np.sort((owners << 32) | slots)
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(first, append=len(keys)).astype(np.float32)
    keys = keys[first]
    starts = np.searchsorted(keys, np.arange(1, len(texts)) << 32)
    distinct = (keys & 0xFFFFFFFF).astype(np.int32)
    return [Ngrams(*both) for both in zip(np.split(distinct, starts), np.split(counts, starts), strict=True)]


def join(ngrams: Sequence[Ngrams]) -> NgramBatch:
    """Texts into a batch."""
    ends = np.cumsum([len(text.slots) for text in ngrams])
    return NgramBatch(
        torch.from_numpy(np.concatenate([text.slots for text in ngrams])),
        torch.from_numpy(np.concatenate([text.counts for text in ngrams])),
        torch.from_numpy(np.concatenate([[0], ends[:-1]])),
    )


def _words(tokens: Sequence[NDArray[np.int32]], bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The text and the slot of each token, of each pair of neighbours, and of each pair with one token between."""
    edge = np.zeros(1, dtype=np.int32)
    stream = np.concatenate([part for ids in tokens for part in (edge, ids, edge)]).astype(np.uint32)
    owners = np.repeat(np.arange(len(tokens)), [len(ids) + 2 for ids in tokens])
    found = [(owners, _slots(stream, 1, bits), stream != BOUNDARY)]
    for apart in (1, 2):
        same = owners[:-apart] == owners[apart:]
        found.append((owners[:-apart], _slots(stream[:-apart] * STEP + stream[apart:], 1 + apart, bits), same))
    return _kept(found)


def _characters(texts: Sequence[str], orders: range, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The text and the slot of each run of characters without a space inside."""
    padded = [f" {clean(text)} " for text in texts]
    stream = np.frombuffer("".join(padded).encode("utf-32-le"), dtype=np.uint32)
    owners = np.repeat(np.arange(len(texts)), [len(text) for text in padded])
    inside = stream != SPACE
    hashed, whole, found = stream, np.ones(len(stream), dtype=bool), []
    for order in range(2, orders.stop):
        hashed = hashed[:-1] * STEP + stream[order - 1 :]
        # A space may open or close the run: with the next character, the one that closed it would be inside.
        whole = whole[:-1] & (inside[order - 2 : -1] if order > 2 else inside[:-1] | inside[1:])
        if order in orders:
            found.append((owners[: len(hashed)], _slots(hashed, 8 + order, bits), whole))
    return _kept(found)


def clean(text: str) -> str:
    """Normalised as the tokenizers do: NFKC, lower case, each run of white space one space."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFKC", text)).lower().split())


def _slots(hashed: Words, seed: int, bits: int) -> NDArray[np.int64]:
    mixed = (hashed + np.uint32(seed * 0x85EBCA6B & 0xFFFFFFFF)) * SPREAD
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    return (mixed >> np.uint32(32 - bits)).astype(np.int64)


def _kept(
    found: Sequence[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    kept = [(owners[keep], slots[keep]) for owners, slots, keep in found]
    return np.concatenate([owners for owners, _ in kept]), np.concatenate([slots for _, slots in kept])
