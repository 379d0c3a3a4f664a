"""One reader a file format; each yields rows of text with the line on which they begin."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from nlp_app.errors import DataError

MAX_CHARACTERS = 1_000_000
"""In one text; more is a mistake, most often a quote that was opened and never closed."""


class Row(NamedTuple):
    """One row of a file."""

    line: int
    """Where it begins, counted from 1; for Parquet the number of the row."""
    values: tuple[str | None, ...]
    """The columns that were asked for, in that order; None where the row has no value."""


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
            raise DataError(f"{path}:{number}: {byte}, which is not UTF-8: save the file as UTF-8") from None


def read_delimited(stream: IO[bytes], path: Path, columns: Sequence[str], *, delimiter: str) -> Iterator[Row]:
    """CSV and TSV with a header, quoted as RFC 4180 says."""
    records = _records(decoded_lines(stream, path), path, delimiter)
    header = next(records, (1, []))[1]
    if not header:
        raise DataError(f"{path} is empty: its first line must name the columns")
    places = [_place(path, header, column) for column in columns]
    for line, fields in records:
        if len(fields) != len(header):
            raise DataError(
                f"{path}:{line}: the row has {len(fields)} fields, but the header names {len(header)}: "
                "quote a text that holds the delimiter or a line break"
            )
        yield Row(line, tuple(fields[place] for place in places))


def read_jsonl(stream: IO[bytes], path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """A JSON object a line; blank lines are passed over."""
    line = 0
    for line, text in enumerate(decoded_lines(stream, path), start=1):
        if text.strip():
            values = _json_object(text, path, line)
            yield Row(line, tuple(_json_text(values, column, path, line) for column in columns))
    if not line:
        raise DataError(f"{path} is empty: each line must be a JSON object")


def read_parquet(stream: IO[bytes], path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Parquet, batch by batch; needs pyarrow, which is in the `training` extra."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'nlp_app[training]'") from None
    try:
        file = pq.ParquetFile(io.BytesIO(stream.read()) if path.suffix == ".gz" else stream)
        for column in columns:
            _place(path, file.schema_arrow.names, column)
        number = 0
        for batch in file.iter_batches(columns=list(dict.fromkeys(columns))):
            for values in zip(*(_arrow_texts(batch.column(column), column, path) for column in columns), strict=True):
                number += 1
                yield Row(number, values)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no whole Parquet file ({error}): copy or write it again") from None


FORMATS: dict[str, Reader] = {
    ".csv": partial(read_delimited, delimiter=","),
    ".tsv": partial(read_delimited, delimiter="\t"),
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
"""By the ending of a file's name."""


def _records(lines: Iterable[str], path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Records with the line on which each begins; blank lines are passed over."""
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = records.line_num + 1
        try:
            with _field_limit():
                fields = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            _raise_csv(str(error), path, start, records.line_num)
        if fields:
            yield start, fields


def _raise_csv(fault: str, path: Path, start: int, line: int) -> NoReturn:
    if "field limit" in fault:
        reason = f"a text is longer than {MAX_CHARACTERS:,} characters: shorten it, or close a quote that was left open"
    elif "end of data" in fault:
        reason = "a quote is opened in this row and never closed: close it"
    else:
        place = "" if line == start else f", on line {line},"
        reason = f"the quotes of this row{place} are broken ({fault}): quote the whole text"
    raise DataError(f'{path}:{start}: {reason}; a quote inside a quoted text is written twice, ""')


@contextmanager
def _field_limit() -> Iterator[None]:
    """The csv module's limit is one for the process: set it for one record only."""
    before = csv.field_size_limit(MAX_CHARACTERS)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _place(path: Path, names: Sequence[str], column: str) -> int:
    if column not in names:
        raise DataError(f"{path} has no column {column!r}: its columns are {', '.join(map(repr, names))}")
    if list(names).count(column) > 1:
        raise DataError(f"{path} has more than one column {column!r}: rename one of them")
    return list(names).index(column)


def _json_object(text: str, path: Path, line: int) -> dict[str, Any]:
    try:
        # Numbers keep their spelling: a label 1.0 or 1e3 stays what stands in the file.
        values = json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{line}: the line is not JSON ({error}): write one object a line") from None
    if not isinstance(values, dict):
        raise DataError(f'{path}:{line}: the line is not a JSON object: write {{"text": …, "label": …}}')
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _json_text(values: dict[str, Any], column: str, path: Path, line: int) -> str | None:
    if column not in values:
        raise DataError(f"{path}:{line}: the object has no key {column!r}: its keys are {', '.join(map(repr, values))}")
    value = values[column]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        kind = "array" if isinstance(value, list) else "object"
        raise DataError(f"{path}:{line}: {column!r} is a JSON {kind}, but must be a text")
    text: str | None = value
    return text


def _arrow_texts(array: Any, column: str, path: Path) -> list[str | None]:
    import pyarrow as pa

    try:
        texts: list[str | None] = array.cast(pa.string()).to_pylist()
    except pa.ArrowException:
        raise DataError(f"{path}: column {column!r} is of type {array.type}, but must hold texts") from None
    return texts
