"""A text file of word vectors: GloVe's .txt, word2vec's and fastText's .vec, each also as .gz; checked line by line.

torchtext reads the vectors themselves (training/vectors.py), but names no line in its errors, takes the last of two
lines with one word, and keeps the whole file in memory: it is handed the lines that are wanted, once they were checked.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from nlp_app.errors import DataError
from nlp_app.packing import open_file
from nlp_app.rows import decoded_lines

LEAST = 3
"""Numbers of a vector; with fewer, torchtext takes a line for the header."""
LARGEST = 3.4e38
"""That float32 holds."""
HEAD = 4096
"""Bytes that are looked at: of numbers in binary one in 256 is zero, which no text has."""


@dataclass(kw_only=True)
class VectorFile:
    """What a file holds of the words that are wanted."""

    dim: int = 0
    lines: dict[str, str] = field(default_factory=dict)
    """Of each word, "word number number …"; the first one where it stands there twice."""
    digest: str = ""
    """SHA-256 of the whole text, unpacked."""


def read_vector_file(path: Path, wanted: Collection[str]) -> VectorFile:
    """Check every line of a file, and keep those of some words.

    Args:
        path: a file of lines "word number number …", with or without a first line "count dim".
        wanted: the words.

    Raises:
        DataError: a line breaks the rules; the message names it and the remedy.
    """
    found, digest, promised, held = VectorFile(), hashlib.sha256(), 0, 0
    with open_file(path) as stream:
        _check_text(stream, path)
        first = 0
        for number, line in enumerate(decoded_lines(stream, path), start=1):
            digest.update(line.encode())
            if not line.strip():
                continue
            first = first or number
            parts = line.rstrip().split(" ")  # not at other spaces: a word may be one, such as U+00A0
            if number == first and len(parts) == 2 and all(part.isdecimal() for part in parts):
                promised, found.dim = map(int, parts)
                continue
            word = _checked(parts, f"{path}:{number}", found, f"line {first} {'promises' if promised else 'has'}")
            held += 1
            if word in wanted:
                found.lines.setdefault(word, " ".join(parts))
    if not held:
        raise DataError(f"{path} holds no vector: each line must be a word and its numbers, with spaces between")
    if held < promised:
        raise DataError(f"{path}: the first line promises {promised:,} vectors, but {held:,} follow: copy it again")
    found.digest = digest.hexdigest()
    return found


def _check_text(stream: IO[bytes], path: Path) -> None:
    """Raise a DataError where the file is binary, as word2vec's .bin is."""
    if b"\0" in stream.read(HEAD):
        raise DataError(f"{path} holds binary numbers: give the vectors as text, which word2vec writes with -binary 0")
    stream.seek(0)


def _checked(parts: Sequence[str], place: str, found: VectorFile, first: str) -> str:
    """The word of a line that keeps the rules; the first line says how many numbers there are."""
    found.dim = found.dim or len(parts) - 1
    if found.dim < LEAST:
        raise DataError(
            f"{place}: {max(found.dim, 0)} numbers a vector, but there must be {LEAST} or more: "
            "write each line as a word and its numbers, with a space between"
        )
    extra = len(parts) - 1 - found.dim
    word = " ".join(parts[: extra + 1]) if _has_spaces(parts[1 : extra + 1]) else parts[0]
    if extra < 0 or (extra and word == parts[0]):
        raise DataError(
            f"{place}: the vector of {parts[0]!r} has {len(parts) - 1} numbers, but {first} {found.dim}: "
            "correct or remove the one that is wrong"
        )
    _check_numbers(parts[-found.dim :], f"{place}: the vector of {word!r}")
    return word


def _has_spaces(parts: Sequence[str]) -> bool:
    """Whether what stands before a vector's numbers goes on as a word does: GloVe has ". . ." and "at name@domain"."""
    try:
        return not [float(part) for part in parts]
    except ValueError:
        return True


def _check_numbers(parts: Sequence[str], name: str) -> None:
    for part in parts:
        try:
            fits = abs(float(part)) <= LARGEST  # also false for NaN
        except ValueError:
            raise DataError(f"{name} holds {part!r}, which is no number: correct the line or remove it") from None
        if not fits:
            raise DataError(f"{name} holds {part!r}, but each number must be finite: correct the line or remove it")
