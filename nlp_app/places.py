"""Where in a text the tokens and the characters stand that a model reads, so that a page can mark them."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nlp_app.characters import is_mark, nfkc

Numbers = NDArray[np.int64]
NOWHERE = -1


class Pieces(NamedTuple):
    """A text in pieces that do not overlap: a token each, or the tokens that share a character, as those of ½ do."""

    spans: list[tuple[int, int]]
    """(P,) first character and the one after the last; no piece begins with white space."""
    of_tokens: Numbers
    """(T,) the piece of each token, NOWHERE for the one of a blank text."""

    def of_characters(self, places: Numbers) -> Numbers:
        """The piece in which each place of the text lies, NOWHERE between them: (N,) -> (N,)."""
        edges = np.array(self.spans, dtype=np.int64).reshape(-1)
        found = np.searchsorted(edges, places, side="right")
        return np.where(found % 2, found // 2, NOWHERE)

    def sums(self, numbers: Numbers, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of each piece's shares: (N,) numbers of pieces, (N,) -> (P,); what lies NOWHERE is in none."""
        found = np.bincount(numbers + 1, weights=shares, minlength=len(self.spans) + 1)
        return found[1:].astype(np.float64)


def cut(text: str, offsets: Sequence[tuple[int, int]]) -> Pieces:
    """Cut a text into pieces.

    Args:
        text: as it was given.
        offsets: T first characters of tokens and those after their last, as Tokenizer.offsets gives them.
    """
    borders = group_starts(text)
    spans: list[tuple[int, int]] = []
    of_tokens: list[int] = []
    for start, end in offsets:
        start += len(text[start:end]) - len(text[start:end].lstrip())  # a subword's mark stands for the space before it
        if start < end:
            # A token may begin or end inside a group: before the accents that stand apart from their letter.
            start, end = borders[bisect_right(borders, start) - 1], borders[bisect_left(borders, end)]
            if spans and start < spans[-1][1]:
                start, end = spans[-1][0], max(end, spans.pop()[1])
            spans.append((start, end))
            of_tokens.append(len(spans) - 1)
        else:  # a mark alone: it belongs to the letters after it
            of_tokens.append(len(spans))
    return Pieces(spans, np.minimum(of_tokens or [NOWHERE], len(spans) - 1).astype(np.int64))


def group_starts(text: str) -> list[int]:
    """Where the characters begin that NFKC normalises by themselves, and last the text's length: a, é, a + accent."""
    starts = [0]
    for place in range(1, len(text)):
        if text[place].isascii() or text[place - 1].isspace() or not _joins(text, starts[-1], place):
            starts.append(place)
    return [*starts, len(text)] if text else starts


def clean_places(text: str) -> Numbers:
    """The place in the text of each character of ngrams.clean(text), of a space that of what follows: (N,)."""
    places: list[int] = []
    space = False
    for start, end in pairwise(group_starts(text)):
        for character in nfkc(text[start:end]):
            if not character.isspace():
                places += [start] * (1 + (space and bool(places)))
            space = character.isspace()
    return np.array(places, dtype=np.int64)


def _joins(text: str, start: int, place: int) -> bool:
    """Whether the character at a place may change, or be changed by, what stands before it from start on."""
    character = text[place]
    if is_mark(character):
        return True  # without a look at what may be a thousand accents before it
    group, own = (nfkc(part) for part in (text[start:place], character))
    return nfkc(text[start : place + 1]) != group + own
