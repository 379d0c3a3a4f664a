"""One reader for each file format; each yields rows of text with the line on which they begin."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

from nlp_app.arrow import arrow_names, read_arrow
from nlp_app.delimited import COMMA, TAB, read_delimited, read_header
from nlp_app.errors import DataError
from nlp_app.rows import Reader, Row, Value, decoded_lines

Objects = Callable[[IO[bytes], Path], Iterator[tuple[int, dict[str, Any]]]]
"""JSON objects, each with its line or number."""


def read_objects(stream: IO[bytes], path: Path, columns: Sequence[str], *, objects: Objects) -> Iterator[Row]:
    """The values of keys."""
    for number, values in objects(stream, path):
        yield Row(number, tuple(_json_text(values, column, path, number) for column in columns))


def first_keys(stream: IO[bytes], path: Path, *, objects: Objects) -> list[str]:
    """The keys of the first object."""
    return list(next(objects(stream, path), (0, {}))[1])


def every_key(stream: IO[bytes], path: Path, *, objects: Objects) -> list[str]:
    """The keys that any of the objects has."""
    return list(dict.fromkeys(key for _, values in objects(stream, path) for key in values))


def _lines(stream: IO[bytes], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """An object a line; blank lines are passed over."""
    line = 0
    for line, text in enumerate(decoded_lines(stream, path), start=1):
        if text.strip():
            yield line, _json_object(text, path, line)
    if not line:
        raise DataError(f"{path} is empty: each line must be a JSON object")


def _array(stream: IO[bytes], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """An array of objects, alone or as the one array of an object, or lines of them; all of it is in memory."""
    data = stream.read()
    try:
        found = json.loads(data.decode("utf-8-sig"), **AS_WRITTEN)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start + 1} is not UTF-8: name its own with --encoding, or save it as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error):
            yield from _lines(io.BytesIO(data), path)
            return
        raise DataError(f"{path} is not JSON ({error}): write an array of objects") from None
    yield from enumerate(_objects_of(found, path), start=1)


def _objects_of(found: object, path: Path) -> list[dict[str, Any]]:
    """The array that a file is, or has under its one key with an array, as {"data": […]} has; one object is a row."""
    if isinstance(found, dict):
        arrays = [value for value in found.values() if isinstance(value, list) and _are_objects(value)]
        found = arrays[0] if len(arrays) == 1 else [found]
    if not isinstance(found, list) or not _are_objects(found):
        raise DataError(f'{path} is no array of JSON objects: write [{{"text": …, "label": …}}, …]')
    return found


def _are_objects(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(one, dict) for one in values)


def _json_object(text: str, path: Path, line: int) -> dict[str, Any]:
    try:
        values = json.loads(text, **AS_WRITTEN)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{line}: the line is not JSON ({error}): write one object a line") from None
    if not isinstance(values, dict):
        raise DataError(f'{path}:{line}: the line is not a JSON object: write {{"text": …, "label": …}}')
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


AS_WRITTEN: dict[str, Any] = {"parse_int": str, "parse_float": str, "parse_constant": _no_constant}
"""Numbers keep their spelling: a label 1.0 or 1e3 stays what stands in the file."""


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


FORMATS: dict[str, Reader] = {
    ".csv": partial(read_delimited, delimiter=COMMA),
    ".tsv": partial(read_delimited, delimiter=TAB),
    ".jsonl": partial(read_objects, objects=_lines),
    ".ndjson": partial(read_objects, objects=_lines),
    ".json": partial(read_objects, objects=_array),
    ".parquet": read_arrow,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
"""By the ending of a file's name."""
BINARY = (".parquet", ".arrow", ".feather")
"""Which are in no encoding."""
NAMES: dict[str, Callable[[IO[bytes], Path], list[str]]] = {
    ".csv": partial(read_header, delimiter=COMMA),
    ".tsv": partial(read_header, delimiter=TAB),
    ".jsonl": partial(first_keys, objects=_lines),
    ".ndjson": partial(first_keys, objects=_lines),
    ".json": partial(first_keys, objects=_array),
    ".parquet": arrow_names,
    ".arrow": arrow_names,
    ".feather": arrow_names,
}
"""What gives the names of the columns that the first row has."""
EVERY_NAME = NAMES | {
    ".jsonl": partial(every_key, objects=_lines),
    ".ndjson": partial(every_key, objects=_lines),
    ".json": partial(every_key, objects=_array),
}
"""The same, but those that any row has."""
