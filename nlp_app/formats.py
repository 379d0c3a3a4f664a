"""One reader for each file format; each yields rows of text with the line on which they begin."""

import io
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

from nlp_app.delimited import read_delimited
from nlp_app.errors import DataError
from nlp_app.rows import Reader, Row, decoded_lines, is_packed, place_of


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
        file = pq.ParquetFile(io.BytesIO(stream.read()) if is_packed(path) else stream)
        for column in columns:
            place_of(path, file.schema_arrow.names, column)
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
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: column {column!r} holds bytes that are not UTF-8 ({error.reason})") from None
    except pa.ArrowException:
        raise DataError(f"{path}: column {column!r} is of type {array.type}, but must hold texts") from None
    return texts
