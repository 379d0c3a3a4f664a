"""Rows of a file of texts: CSV, TSV, JSONL, Parquet and plain lines, each also as .gz; every value is read as text.

01, NA, None and true stay as they stand in the file; what the file has no value for is None.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from nlp_app.errors import DataError, TokenizerError
from nlp_app.formats import EVERY_NAME, FORMATS, NAMES
from nlp_app.rows import MAX_CHARACTERS, Row, Value, decoded_lines, is_packed
from nlp_app.tokenizer import check_text


def read_rows(path: Path, columns: Sequence[str], lists: Sequence[str] = ()) -> Iterator[Row]:
    """Read the named columns of a table, row by row.

    Args:
        path: a file whose name ends in one of FORMATS, or in that and .gz.
        columns: names of columns, each of which the file must have.
        lists: names of those in which a list of texts may stand.

    Raises:
        DataError: the file cannot be used; the message names it, the line and the remedy.
    """
    reader = FORMATS[_format(path)]
    with open_file(path) as stream:
        for row in reader(stream, path, columns):
            for column, value in zip(columns, row.values, strict=True):
                if isinstance(value, tuple) and column not in lists:
                    raise DataError(f"{path}:{row.line}: {column!r} is a list, but must be a text")
                for text in value if isinstance(value, tuple) else (value,):
                    _check_value(text, path, row.line, repr(column))
            yield row


def read_texts(path: Path, columns: Sequence[str]) -> Iterator[str]:
    """The texts of a table, or of a file of any other name, which holds a text a line.

    Raises:
        DataError: the file cannot be used.
    """
    if _suffix(path) not in FORMATS:
        with open_file(path) as stream:
            yield from read_lines(stream, path)
    else:
        for _, values in read_rows(path, columns):
            yield join_columns(values)


def column_names(path: Path, *, every: bool = False) -> list[str]:
    """The columns that the first row of a table has, or every column that a row has.

    Raises:
        DataError: the file cannot be used.
    """
    names = (EVERY_NAME if every else NAMES)[_format(path)]
    with open_file(path) as stream:
        return names(stream, path)


def read_lines(stream: IO[bytes], path: Path) -> Iterator[str]:
    """A text a line, blank ones too.

    Raises:
        DataError: a line is not UTF-8 or is too long.
    """
    for number, line in enumerate(decoded_lines(stream, path), start=1):
        text = line.rstrip("\r\n")
        _check_value(text, path, number, "the line")
        yield text


def join_columns(values: Sequence[Value]) -> str:
    """Several columns of one row as one text, such as subject and body."""
    return " ".join(value for value in values if isinstance(value, str) and value)


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked where its name ends in .gz; what goes wrong while it is read becomes a DataError."""
    try:
        with gzip.open(path, "rb") if is_packed(path) else path.open("rb") as stream:
            yield cast(IO[bytes], stream)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder: name a file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is no whole gzip file ({error}): copy it again, or take .gz off its name") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def _format(path: Path) -> str:
    suffix = _suffix(path)
    if suffix not in FORMATS:
        raise DataError(f"{path}: unknown kind of file: its name must end in {', '.join(FORMATS)}, or in that and .gz")
    return suffix


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if is_packed(path) else path).suffix.lower()


def _check_value(value: str | None, path: Path, line: int, name: str) -> None:
    if value is None:
        return
    if len(value) > MAX_CHARACTERS:
        raise DataError(
            f"{path}:{line}: {name} holds {len(value):,} characters, but at most {MAX_CHARACTERS:,} are read: "
            "shorten the text, or close a quote that was left open"
        )
    try:
        check_text(value, name)
    except TokenizerError as error:
        raise DataError(f"{path}:{line}: {error}") from None
