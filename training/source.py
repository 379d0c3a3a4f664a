"""Labelled texts that can be read again and again, one at a time, and what tells whether they are still the same."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from nlp_app.errors import DataError
from nlp_app.rows import Value
from nlp_app.tables import column_names, join_columns, read_rows
from training.data import LABEL_COLUMNS, Labels, one_label, several_labels

PACKED = (".gz", ".parquet")
PACKING, MOST_PACKING = 3, 8
"""Characters that a byte of a packed file holds: mostly, and at most, or hardly more."""
FIRST_ROWS, WARY = 1000, 3
"""By the share of the texts in so many rows it is guessed how much text a file has, and by how much that may be off."""


class LabelledText(NamedTuple):
    """One row, checked."""

    text: str
    labels: Labels
    """Of one kind for all rows of a source."""
    line: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where labelled texts come from; all that the cache knows of it, so any reader can give one."""

    path: Path
    """As messages name it."""
    key: Mapping[str, Any]
    """JSON values that are others where the texts, or how they are read, may be others."""
    read: Callable[[], Iterator[LabelledText]]
    """The rows from the first on, in an order that is always the same; it may raise a DataError at any of them."""
    bytes: int
    """About, of all texts and labels together."""
    most_characters: int
    """All texts together cannot have more, or hardly."""
    least_characters: Callable[[], int] = lambda: 0
    """They cannot have fewer, or hardly: asked for where the most does not settle it."""


def file_source(
    path: Path, *, text_columns: Sequence[str], label_column: str | None = None, separator: str | None = None
) -> Source:
    """A file as a source; the arguments are those of read_examples. One that is not there is told when it is read."""
    packed = path.suffix.lower() in PACKED
    size, changed = 0, 0
    with suppress(OSError):
        size, changed = path.stat().st_size, path.stat().st_mtime_ns
    files = [[str(path.resolve()), size, changed]]

    def read() -> Iterator[LabelledText]:
        return labelled_texts(path, text_columns=text_columns, label_column=label_column, separator=separator)

    return Source(
        path=path,
        key={"files": files, "text": list(text_columns), "label": label_column, "separator": separator},
        read=read,
        bytes=size * (PACKING if packed else 1),
        most_characters=size * (MOST_PACKING if packed else 1),
        least_characters=lambda: 0 if packed else int(size * _share(path, text_columns) / WARY),
    )


def labelled_texts(
    path: Path, *, text_columns: Sequence[str], label_column: str | None = None, separator: str | None = None
) -> Iterator[LabelledText]:
    """The rows of a file, checked as read_examples checks them, but without holding more than one.

    Whether a text has one label or a list is told by the first row that has any.

    Raises:
        DataError: the file cannot be used, or a row breaks the rules for labels.
    """
    if label_column is None:
        names = column_names(path)
        label_column = next((name for name in LABEL_COLUMNS if name in names), LABEL_COLUMNS[0])
    if label_column in text_columns:
        raise DataError(f"column {label_column!r} cannot be both text and label: set --text-column or --label-column")
    columns = [*text_columns, label_column]
    several = bool(separator) or _is_list(path, label_column)
    read = several_labels if several else one_label
    for line, values in read_rows(path, columns, lists=[label_column]):
        labels, parts = values[-1], values[:-1]
        if isinstance(labels, tuple) and not several:
            raise DataError(
                f"{path}:{line}: {label_column!r} is a list, where other rows have a text: write all of them as lists"
            )
        if isinstance(labels, tuple) or several or not labels or not labels.strip():  # most rows are spared the call
            labels = read(labels, f"{path}:{line}", label_column, separator)
        text = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else join_columns(parts)
        yield LabelledText(text, labels, line)


def exceeds(source: Source, characters: int) -> bool:
    """Whether all texts together have more characters; counted only where the size does not tell."""
    if source.most_characters <= characters:
        return False
    if source.least_characters() > characters:
        return True
    read = 0
    for row in source.read():
        read += len(row.text)
        if read > characters:
            return True
    return False


def _share(path: Path, text_columns: Sequence[str]) -> float:
    """Of the text in all that the first rows of a file hold; 0 where that cannot be told."""
    texts = every = 0
    with suppress(DataError):
        names = column_names(path)
        for _, values in islice(read_rows(path, names, lists=names), FIRST_ROWS):
            for name, value in zip(names, values, strict=True):
                size = len("".join(value or "").encode())
                every += size
                texts += size if name in text_columns else 0
        return texts / max(1, every)
    return 0.0


def _is_list(path: Path, column: str) -> bool:
    """Whether the first row that has a label has a list of them."""

    def has(value: Value) -> bool:
        return isinstance(value, tuple) or bool(value and value.strip())

    values = (row.values[0] for row in read_rows(path, [column], lists=[column]))
    return isinstance(next((value for value in values if has(value)), None), tuple)
