"""What each character is: tables by code point, so that texts can be looked at by array operations."""

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

SPACE, SYMBOL, ALONE, LETTER, UPPER, DIGIT = range(6)
"""Kinds of characters. From LETTER on they make words; ALONE is a letter of a script that is written without spaces."""
TABLE_SIZE = 0x20000
"""Code points in the tables. Above stand rare ideographs, each a word by itself."""
WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


def kinds(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The kind of each code point."""
    return _tables()[0][np.minimum(codes, TABLE_SIZE)]


def lower(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Each code point in lower case, where that is one code point."""
    return np.where(codes < TABLE_SIZE, _tables()[1][np.minimum(codes, TABLE_SIZE)], codes)


@cache
def _tables() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Kinds and lower cases: (TABLE_SIZE + 1,) each; made once, in about 0.1 s."""
    characters = [chr(code) for code in range(TABLE_SIZE)]
    lowered = [one.lower() for one in characters]
    codes = [ord(one) if len(one) == 1 else code for code, one in enumerate(lowered)]
    return (
        np.array([*map(_kind, characters), ALONE], dtype=np.uint8),
        np.array([*codes, 0], dtype=np.uint32),
    )


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if character.isspace():
        return SPACE
    if category[0] == "N":
        return DIGIT
    if category[0] not in "LM" and character != "_":
        return SYMBOL
    if category[0] == "L" and unicodedata.name(character, "").startswith(WITHOUT_SPACES):
        return ALONE
    return UPPER if category in ("Lu", "Lt") else LETTER
