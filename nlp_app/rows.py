"""A row of a file of texts, and what the readers of every format share."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from nlp_app.errors import DataError

MAX_CHARACTERS = 1_000_000
"""In one text; more is a mistake, most often a quote that was opened and never closed."""


Value = str | tuple[str, ...] | None
"""A text; a list of texts, in formats that have lists; None where the row has no value."""


class Row(NamedTuple):
    """One row of a file."""

    line: int
    """Where it begins, counted from 1; for Parquet the number of the row."""
    values: tuple[Value, ...]
    """The columns that were asked for, in that order."""


Reader = Callable[[IO[bytes], Path, Sequence[str]], Iterator[Row]]


def decoded_lines(stream: IO[bytes], path: Path) -> Iterator[str]:
    """The lines of a UTF-8 stream, line ends kept, a byte order mark left out.

    Raises:
        DataError: a line is not UTF-8.
    """
    for number, line in enumerate(stream, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}"
            raise DataError(
                f"{path}:{number}: {byte}, which is not UTF-8: name its own with --encoding, or save it as UTF-8"
            ) from None


def place_of(path: Path, names: Sequence[str], column: str) -> int:
    """The place of a column among the names of a file's columns.

    Raises:
        DataError: it is not there, or there is more than one.
    """
    if column not in names:
        shown = ", ".join(map(repr, names))
        raise DataError(
            f"{path} has no column {column!r}: its columns are {shown}; name yours with --text-column or --label-column"
        )
    if list(names).count(column) > 1:
        raise DataError(f"{path} has more than one column {column!r}: rename one of them")
    return list(names).index(column)
