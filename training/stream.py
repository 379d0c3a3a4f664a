"""Labelled texts that can be read again and again, one at a time, and what tells whether they are still the same."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from nlp_app.errors import DataError
from nlp_app.packing import is_packed
from nlp_app.rows import Value
from nlp_app.tables import join_columns
from training.columns import choose_columns
from training.data import Labels, check_numbers, one_label, several_labels
from training.source_files import Source
from training.sources import Given, find_sources, name_of

PACKING, MOST_PACKING = 3, 8
"""Characters that a byte of a packed file holds: mostly, and at most, or hardly more."""
FIRST_ROWS, WARY = 1000, 3
"""By the share of the texts in so many rows it is guessed how much text a file has, and by how much that may be off."""
ANY = 1 << 62
"""Characters that something without a file may have."""


class LabelledText(NamedTuple):
    """One row, checked."""

    text: str
    labels: Labels
    """Of one kind for all rows of a stream."""
    line: int


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Where labelled texts come from; all that the cache knows of it, so any reader can give one."""

    path: Path
    """As messages name it."""
    key: Callable[[], Mapping[str, Any]]
    """JSON values that are others where the texts, or how they are read, may be others."""
    read: Callable[[], Iterator[LabelledText]]
    """The rows from the first on, in an order that is always the same; it may raise a DataError at any of them."""
    bytes: int
    """About, of all texts and labels together."""
    most_characters: int
    """All texts together cannot have more, or hardly."""
    least_characters: Callable[[], int] = lambda: 0
    """They cannot have fewer, or hardly: asked for where the most does not settle it."""
    notes: Callable[[], list[str]] = list
    """What should be said of how they are read."""


def stream_of(
    given: Given | list[Source],
    *,
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
    separator: str | None = None,
) -> Stream:
    """Sources as a stream; the arguments are those of read_examples. One that is not there is told when it is read."""
    sources = given if isinstance(given, list) else find_sources(given)
    files = [file for source in sources for file in source.files()]
    packed = any(is_packed(file) or file.suffix.lower() == ".parquet" for file in files)
    size = 0
    for file in files:
        with suppress(OSError):
            size += file.stat().st_size
    more = {"text": list(text_columns), "label": label_column, "separator": separator}

    def read() -> Iterator[LabelledText]:
        return labelled_texts(sources, text_columns=text_columns, label_column=label_column, separator=separator)

    def columns() -> tuple[tuple[str, ...], str, list[str]]:
        return choose_columns(sources[0].columns(), text_columns, label_column)

    return Stream(
        path=Path(name_of(sources)),
        key=lambda: {"sources": [key_of_source(source, columns) for source in sources], **more},
        read=read,
        bytes=size * (PACKING if packed else 1),
        most_characters=ANY
        if not all(source.files() for source in sources)
        else size * (MOST_PACKING if packed else 1),
        least_characters=lambda: 0 if packed else int(size * _share(sources[0], columns) / WARY),
        notes=lambda: [*columns()[2], *(note for source in sources for note in source.notes())],
    )


def key_of_source(source: Source, columns: Callable[[], tuple[tuple[str, ...], str, list[str]]]) -> list[Any]:
    """Of files their names, sizes and times; of what has none its rows."""
    if files := source.files():
        return [_stat(file) for file in files]
    texts_in, label_in, _ = columns()
    digest = hashlib.sha256()
    for row in source.rows([*texts_in, label_in], [label_in]):
        digest.update(json.dumps(row.values).encode())
    return [source.name, digest.hexdigest()]


def _stat(file: Path) -> list[Any]:
    """Zeros of a file that is not there, which reading it will say."""
    try:
        found = file.stat()
    except OSError:
        return [str(file.resolve()), 0, 0]
    return [str(file.resolve()), found.st_size, found.st_mtime_ns]


def labelled_texts(
    sources: Sequence[Source], *, text_columns: Sequence[str], label_column: str | None, separator: str | None
) -> Iterator[LabelledText]:
    """The rows of sources, checked as read_examples checks them, but without holding more than one.

    Whether a text has one label or a list is told by the first row that has any; of marked lines by all of them.

    Raises:
        DataError: a source cannot be used, or a row breaks the rules for labels.
    """
    texts_in, label_in, _ = choose_columns(sources[0].columns(), text_columns, label_column)
    marked = all(source.marked for source in sources)
    several = bool(separator) or (_has_several(sources, label_in) if marked else _is_list(sources, label_in))
    read = several_labels if several else one_label
    seen: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        for line, (*parts, labels) in source.rows([*texts_in, label_in], [label_in]):
            if marked and not several:
                labels = labels[0] if labels else None
            if isinstance(labels, tuple) and not several:
                told = f"{label_in!r} is a list, where other rows have a text: write all of them as lists"
                raise DataError(f"{source.place(line)}: {told}")
            if isinstance(labels, tuple) or several or not labels or not labels.strip():  # most are spared the call
                labels = read(labels, source.place(line), label_in, separator)
            seen[source.name].update(labels if isinstance(labels, tuple) else (labels,))
            text = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else join_columns(parts)
            yield LabelledText(text, labels, line)
    check_numbers(seen)


def exceeds(source: Stream, *, texts: int, characters: int) -> bool:
    """Whether there are more texts, or more characters in all of them; counted only where the size does not tell."""
    if source.most_characters <= min(texts, characters):  # each has one at least
        return False
    if source.least_characters() > characters:
        return True
    read = 0
    for number, row in enumerate(source.read(), start=1):
        read += len(row.text)
        if number > texts or read > characters:
            return True
    return False


def _share(source: Source, columns: Callable[[], tuple[tuple[str, ...], str, list[str]]]) -> float:
    """Of the text in all that the first rows hold; 0 where that cannot be told."""
    texts = every = 0
    with suppress(DataError):
        names, texts_in = source.columns(), columns()[0]
        for _, values in islice(source.rows(names, names), FIRST_ROWS):
            for name, value in zip(names, values, strict=True):
                size = len("".join(value or "").encode())
                every += size
                texts += size if name in texts_in else 0
        return texts / max(1, every)
    return 0.0


def _is_list(sources: Sequence[Source], column: str) -> bool:
    """Whether the first row that has a label has a list of them."""

    def has(value: Value) -> bool:
        return isinstance(value, tuple) or bool(value and value.strip())

    values = (row.values[0] for source in sources for row in source.rows([column], [column]))
    return isinstance(next((value for value in values if has(value)), None), tuple)


def _has_several(sources: Sequence[Source], column: str) -> bool:
    """Whether any row has more than one label."""
    return any(len(row.values[0] or ()) > 1 for source in sources for row in source.rows([column], [column]))
