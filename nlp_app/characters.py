"""What each character is: tables by code point, so that texts can be looked at by array operations; and one spelling.

A text's n-grams and the places that they are found at both come from nfkc(), so that they agree.
"""

import re
import sys
import unicodedata
from functools import cache
from itertools import groupby, islice

import numpy as np
from numpy.typing import NDArray

SPACE, SYMBOL, ALONE, LETTER, UPPER, DIGIT = range(6)
"""Kinds of characters. From LETTER on they make words; ALONE is a letter of a script that is written without spaces."""
TABLE_SIZE = 0x20000
"""Code points in the tables. Above stand rare ideographs, each a word by itself."""
FAR = 0x10000
MOST_MARKS = 30
"""On one letter: as many as Unicode's Stream-Safe Text Format allows, and no word of any language has (UAX 15)."""
WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


def look_up(text: str) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """The code points of a text in lower case, each where that is one code point, and their kinds: (N,) each."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    places = codes if text.isascii() else np.minimum(codes, TABLE_SIZE)
    kind, lowered = _tables()
    found = lowered.take(places)
    if places is not codes:
        np.copyto(found, codes, where=codes >= TABLE_SIZE)
    return found, kind.take(places)


def nfkc(text: str) -> str:
    """NFKC, as the tokenizers do; of a run of combining marks the first MOST_MARKS.

    The library sorts each run in a time that grows with its square: 64,000 of them would take 14 to 47 s.
    """
    return text if text.isascii() else unicodedata.normalize("NFKC", _long_runs().sub(_shortened, text))


def is_mark(character: str) -> bool:
    """Whether it, or what it is made of, combines with the letter before it."""
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) > 0


@cache
def _long_runs() -> re.Pattern[str]:
    """Runs of what may be too many marks; made once, in about 0.05 s.

    Beyond the first 65,536 code points every character is one that may be: a class that named those marks would take
    0.5 us a character of any text, where this one takes 0.02.
    """
    mark = f"[{''.join(filter(is_mark, map(chr, range(FAR))))}{chr(FAR)}-{chr(sys.maxunicode)}]"
    return re.compile(f"{mark}{mark}{{{MOST_MARKS},}}")


def _shortened(run: re.Match[str]) -> str:
    groups = groupby(run[0], is_mark)
    return "".join("".join(islice(group, MOST_MARKS if marks else None)) for marks, group in groups)


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
