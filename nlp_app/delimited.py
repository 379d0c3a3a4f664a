"""CSV and TSV with a header, quoted as RFC 4180 says; a CSV file may have another delimiter, which its header shows."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, NoReturn

from nlp_app.errors import DataError
from nlp_app.rows import MAX_CHARACTERS, Row, decoded_lines, place_of

COMMA, TAB = ",", "\t"
OTHERS = {";": "';'", TAB: "a tab", "|": "'|'"}
"""That a file of a name for commas may have, and what they are called."""
AT_ONCE = 64
"""Records that are read before the first of them is given: setting the limit takes longer than reading a short one."""


def read_delimited(stream: IO[bytes], path: Path, columns: Sequence[str], *, delimiter: str) -> Iterator[Row]:
    """Read the rows of a file whose first line names the columns.

    Args:
        stream: of UTF-8.
        path: its name, for messages.
        columns: whose values are wanted.
        delimiter: what its name says; a header without commas may show another.
    """
    records = _opened(stream, path, delimiter)
    header = _header(records, path)
    places = [place_of(path, header, column) for column in columns]
    for line, fields in records:
        if len(fields) != len(header):
            raise DataError(
                f"{path}:{line}: the row has {len(fields)} fields, but the header names {len(header)}: "
                "quote a text that holds the delimiter or a line break"
            )
        yield Row(line, tuple(fields[place] for place in places))


def read_header(stream: IO[bytes], path: Path, *, delimiter: str) -> list[str]:
    """The names of the columns, from the first line."""
    return _header(_opened(stream, path, delimiter), path)


def to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as RFC 4180 has them."""
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([header, *rows])
    return stream.getvalue().encode()


def delimiter_of(header: str, named: str) -> str:
    """A comma, unless the header has none, and one other delimiter."""
    there = [one for one in OTHERS if one in header]
    return there[0] if named == COMMA and COMMA not in header and len(there) == 1 else named


def _opened(stream: IO[bytes], path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Records, by the delimiter that the first line shows."""
    lines = decoded_lines(stream, path)
    first = next(lines, "")
    return _records(chain([first] if first else [], lines), path, delimiter_of(first, delimiter))


def _header(records: Iterator[tuple[int, list[str]]], path: Path) -> list[str]:
    header = next(records, (1, []))[1]
    if not header:
        raise DataError(f"{path} is empty: its first line must name the columns")
    return header


def _records(lines: Iterable[str], path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Records with the line on which each begins; blank lines are passed over."""
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    fault: csv.Error | DataError | None = None
    start, more = 1, True
    while more:
        found: list[tuple[int, list[str]]] = []
        try:
            with _field_limit():
                for fields in islice(records, AT_ONCE):
                    found.append((start, fields))
                    start = records.line_num + 1
        except (csv.Error, DataError) as error:
            fault = error
        yield from (record for record in found if record[1])
        more = len(found) == AT_ONCE
    if isinstance(fault, csv.Error):
        _raise_csv(str(fault), path, start, records.line_num)
    if fault is not None:
        raise fault


def _raise_csv(fault: str, path: Path, start: int, line: int) -> NoReturn:
    if "field limit" in fault:
        reason = f"a text is longer than {MAX_CHARACTERS:,} characters: shorten it, or close a quote that was left open"
    elif "end of data" in fault:
        reason = "a quote is opened in this row and never closed: close it"
    elif "new-line character" in fault:
        raise DataError(f"{path}:{start}: a carriage return stands outside quotes: end the lines with LF or CRLF")
    else:
        place = "" if line == start else f", on line {line},"
        reason = f"the quotes of this row{place} are broken ({fault}): quote the whole text"
    raise DataError(f'{path}:{start}: {reason}; a quote inside a quoted text is written twice, ""')


@contextmanager
def _field_limit() -> Iterator[None]:
    """The csv module's limit is one for the process: set it while it reads records, and no longer."""
    before = csv.field_size_limit(MAX_CHARACTERS)
    try:
        yield
    finally:
        csv.field_size_limit(before)
