"""One reader for each file format; each yields rows of text with the line on which they begin."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

from nlp_app.delimited import read_delimited, read_header
from nlp_app.errors import DataError
from nlp_app.rows import Reader, Row, Value, decoded_lines, is_packed, place_of


def read_jsonl(stream: IO[bytes], path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """A JSON object a line; blank lines are passed over."""
    for line, values in _objects(stream, path):
        yield Row(line, tuple(_json_text(values, column, path, line) for column in columns))


def json_keys(stream: IO[bytes], path: Path) -> list[str]:
    """The keys of the first object."""
    return list(next(_objects(stream, path), (0, {}))[1])


def every_json_key(stream: IO[bytes], path: Path) -> list[str]:
    """The keys that any of the objects has."""
    return list(dict.fromkeys(key for _, values in _objects(stream, path) for key in values))


def read_parquet(stream: IO[bytes], path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Parquet, batch by batch; needs pyarrow, which is in the `training` extra."""
    with _parquet(stream, path) as file:
        for column in columns:
            place_of(path, file.schema_arrow.names, column)
        number = 0
        for batch in file.iter_batches(columns=list(dict.fromkeys(columns))):
            for values in zip(*(_arrow_values(batch.column(column), column, path) for column in columns), strict=True):
                number += 1
                yield Row(number, values)


def parquet_names(stream: IO[bytes], path: Path) -> list[str]:
    """The columns of the schema."""
    with _parquet(stream, path) as file:
        return list(file.schema_arrow.names)


FORMATS: dict[str, Reader] = {
    ".csv": partial(read_delimited, delimiter=","),
    ".tsv": partial(read_delimited, delimiter="\t"),
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
"""By the ending of a file's name."""
NAMES: dict[str, Callable[[IO[bytes], Path], list[str]]] = {
    ".csv": partial(read_header, delimiter=","),
    ".tsv": partial(read_header, delimiter="\t"),
    ".jsonl": json_keys,
    ".parquet": parquet_names,
}
"""What gives the names of the columns that the first row has."""
EVERY_NAME = NAMES | {".jsonl": every_json_key}
"""The same, but those that any row has."""


@contextmanager
def _parquet(stream: IO[bytes], path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'nlp_app[training]'") from None
    try:
        yield pq.ParquetFile(io.BytesIO(stream.read()) if is_packed(path) else stream)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no whole Parquet file ({error}): copy or write it again") from None


def _objects(stream: IO[bytes], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    line = 0
    for line, text in enumerate(decoded_lines(stream, path), start=1):
        if text.strip():
            yield line, _json_object(text, path, line)
    if not line:
        raise DataError(f"{path} is empty: each line must be a JSON object")


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


def _json_text(values: dict[str, Any], column: str, path: Path, line: int) -> Value:
    if column not in values:
        raise DataError(f"{path}:{line}: the object has no key {column!r}: its keys are {', '.join(map(repr, values))}")
    value = values[column]
    if isinstance(value, list):
        return tuple(_json_scalar(item, column, path, line, inside=True) or "" for item in value)
    return _json_scalar(value, column, path, line)


def _json_scalar(value: object, column: str, path: Path, line: int, *, inside: bool = False) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        kind = "array" if isinstance(value, list) else "object"
        verb, be = ("holds", "hold texts") if inside else ("is", "be a text")
        raise DataError(f"{path}:{line}: {column!r} {verb} a JSON {kind}, but must {be}")
    text: str | None = value  # type: ignore[assignment]  # JSON has no more kinds
    return text


def _arrow_values(array: Any, column: str, path: Path) -> list[Value]:
    import pyarrow as pa

    wanted = (
        pa.list_(pa.string()) if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) else pa.string()
    )
    try:
        values = array.cast(wanted).to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: column {column!r} holds bytes that are not UTF-8 ({error.reason})") from None
    except pa.ArrowException:
        raise DataError(f"{path}: column {column!r} is of type {array.type}, but must hold texts") from None
    return [tuple(item or "" for item in value) if isinstance(value, list) else value for value in values]
