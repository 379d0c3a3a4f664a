"""Rows of a file of texts: CSV, TSV, JSON, Parquet, Arrow and plain lines, each also packed; every value is text.

01, NA, None and true stay as they stand in the file; what the file has no value for is None.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from nlp_app.delimited import COMMA, OTHERS, delimiter_of
from nlp_app.errors import DataError, TokenizerError
from nlp_app.formats import BINARY, EVERY_NAME, FORMATS, NAMES
from nlp_app.packing import PACKED, open_file, plain_suffix
from nlp_app.recoding import UTF_8, encoding_of, open_text
from nlp_app.rows import MAX_CHARACTERS, Row, Value, decoded_lines
from nlp_app.tokenizer import check_text


def read_rows(
    path: Path, columns: Sequence[str], lists: Sequence[str] = (), *, encoding: str | None = None
) -> Iterator[Row]:
    """Read the named columns of a table, row by row.

    Args:
        path: a file whose name ends in one of FORMATS, or in that and one of PACKED.
        columns: names of columns, each of which the file must have.
        lists: names of those in which a list of texts may stand.
        encoding: of text; None for what a mark at its beginning says, and UTF-8 without one.

    Raises:
        DataError: the file cannot be used; the message names it, the line and the remedy.
    """
    reader = FORMATS[_format(path)]
    with opened(path, encoding) as stream:
        for row in reader(stream, path, columns):
            check_row(row, columns, lists, path)
            yield row


def check_row(row: Row, columns: Sequence[str], lists: Sequence[str], path: Path) -> None:
    """Raise a DataError where a value is none that a text may have, or a list where a text must be."""
    for column, value in zip(columns, row.values, strict=True):
        if isinstance(value, tuple) and column not in lists:
            raise DataError(f"{path}:{row.line}: {column!r} is a list, but must be a text")
        for text in value if isinstance(value, tuple) else (value,):
            check_value(text, path, row.line, repr(column))


def read_texts(path: Path, columns: Sequence[str], *, encoding: str | None = None) -> Iterator[str]:
    """The texts of a table, or of a file of any other name, which holds a text a line.

    Raises:
        DataError: the file cannot be used.
    """
    if plain_suffix(path) not in FORMATS:
        with open_text(path, encoding) as stream:
            yield from read_lines(stream, path)
    else:
        for _, values in read_rows(path, columns, encoding=encoding):
            yield join_columns(values)


def is_table(path: Path) -> bool:
    """Whether its name is that of a file with columns."""
    return plain_suffix(path) in FORMATS


def column_names(path: Path, *, every: bool = False, encoding: str | None = None) -> list[str]:
    """The columns that the first row of a table has, or every column that a row has.

    Raises:
        DataError: the file cannot be used.
    """
    names = (EVERY_NAME if every else NAMES)[_format(path)]
    with opened(path, encoding) as stream:
        return names(stream, path)


def read_lines(stream: IO[bytes], path: Path) -> Iterator[str]:
    """A text a line, blank ones too.

    Raises:
        DataError: a line is not UTF-8 or is too long.
    """
    for number, line in enumerate(decoded_lines(stream, path), start=1):
        text = line.rstrip("\r\n")
        check_value(text, path, number, "the line")
        yield text


def join_columns(values: Sequence[Value]) -> str:
    """Several columns of one row as one text, such as subject and body."""
    return " ".join(value for value in values if isinstance(value, str) and value)


def noticed(path: Path, encoding: str | None = None) -> list[str]:
    """What was seen of a file that its name does not tell, as the ends of sentences."""
    if plain_suffix(path) in BINARY:
        return []
    found = []
    if encoding is None:
        with open_file(path) as stream:
            encoding = encoding_of(stream)
        found += [] if encoding == UTF_8 else [f"is read as {encoding}"]
    if plain_suffix(path) == ".csv":
        with open_text(path, encoding) as stream:
            delimiter = delimiter_of(next(decoded_lines(stream, path), ""), COMMA)
        found += [] if delimiter == COMMA else [f"has its columns parted by {OTHERS[delimiter]}"]
    return found


def opened(path: Path, encoding: str | None = None) -> AbstractContextManager[IO[bytes]]:
    """A file of a known format, or of lines, as its reader reads it."""
    return open_file(path) if plain_suffix(path) in BINARY else open_text(path, encoding)


def _format(path: Path) -> str:
    suffix = plain_suffix(path)
    if suffix not in FORMATS:
        packed = ", ".join(PACKED)
        raise DataError(
            f"{path}: unknown kind of file: its name must end in {', '.join(FORMATS)}, or in that and one of {packed}"
        )
    return suffix


def check_value(value: str | None, path: Path, line: int, name: str) -> None:
    """Raise a DataError where a text is too long, or is none that UTF-8 can write."""
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
