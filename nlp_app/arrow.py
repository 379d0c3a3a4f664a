"""Parquet and Arrow files, batch by batch; needs pyarrow, which is in the `training` extra."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nlp_app.errors import DataError
from nlp_app.packing import is_packed, plain_suffix
from nlp_app.rows import Row, Value, place_of

ROWS_AT_ONCE = 4096
NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)


def read_arrow(stream: IO[bytes], path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a file; numbers of a class become its name where the file tells the names, as those of the hub do."""
    with _opened(stream, path) as (schema, batches):
        for column in columns:
            place_of(path, schema.names, column)
        named = [class_names(schema, column) for column in columns]
        number = 0
        for batch in batches(list(dict.fromkeys(columns))):
            values = [_values(batch.column(column), column, path) for column in columns]
            for row in zip(*(_named(one, names) for one, names in zip(values, named, strict=True)), strict=True):
                number += 1
                yield Row(number, row)


def arrow_names(stream: IO[bytes], path: Path) -> list[str]:
    """The columns of the schema."""
    with _opened(stream, path) as (schema, _):
        return list(schema.names)


def class_names(schema: Any, column: str) -> list[str] | None:
    """What the hub's `datasets` calls the numbers of a ClassLabel; None of any other column."""
    told: Any = (schema.metadata or {}).get(b"huggingface")
    try:
        feature = json.loads(told)["info"]["features"][column]
        return list(feature["names"]) if feature["_type"] == "ClassLabel" else None
    except (TypeError, ValueError, LookupError):
        return None


@contextmanager
def _opened(stream: IO[bytes], path: Path) -> Iterator[tuple[Any, Any]]:
    """The schema, and what gives batches of columns."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(f"{path}: reading it needs pyarrow: pip install 'nlp_app[training]'") from None
    kind = "Parquet" if plain_suffix(path) == ".parquet" else "Arrow"
    try:
        source = io.BytesIO(stream.read()) if is_packed(path) else stream
        if kind == "Parquet":
            file = pq.ParquetFile(source)
            yield file.schema_arrow, lambda columns: file.iter_batches(ROWS_AT_ONCE, columns=columns)
        else:
            schema, batches = _ipc(pa, source)
            yield schema, lambda columns: (batch.select(columns) for batch in batches)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no whole {kind} file ({error}): copy or write it again") from None


def _ipc(pa: Any, source: IO[bytes]) -> tuple[Any, Iterator[Any]]:
    """Of a file or of a stream, both of which are called .arrow."""
    if source.read(6) == b"ARROW1":
        file = pa.ipc.open_file(source)
        return file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
    source.seek(0)
    stream = pa.ipc.open_stream(source)
    return stream.schema, iter(stream)


def _values(array: Any, column: str, path: Path) -> list[Value]:
    import pyarrow as pa

    kind = array.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    try:
        values = array.cast(pa.list_(pa.string()) if lists else pa.string()).to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: column {column!r} holds bytes that are not UTF-8 ({error.reason})") from None
    except pa.ArrowException:
        raise DataError(f"{path}: column {column!r} is of type {kind}, but must hold texts") from None
    return [tuple(item or "" for item in value) if isinstance(value, list) else value for value in values]


def _named(values: list[Value], names: list[str] | None) -> list[Value]:
    if names is None:
        return values
    return [_name_of(value, names) for value in values]


def _name_of(value: Value, names: list[str]) -> Value:
    """A number's name, none of what is no class; a text is a name itself."""
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        return value
    return names[int(value)] if 0 <= int(value) < len(names) else None
