"""Labelled texts in the cache, mapped into memory: nothing of them is in it but what was just asked for."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.cache_files import read_table
from training.data import Examples, Labels, number_of, odd_counts, some_of
from training.sampled import Numbers


class Tables:
    """Tables of a cache as one, whose rows have consecutive numbers."""

    def __init__(self, *, folder: Path, manifest: dict[str, Any]) -> None:
        entries = [entry for entry in manifest["tables"] if entry["name"].endswith(".arrow")]
        self.folder = folder
        self.names = [str(entry["name"]) for entry in entries]
        self.starts = np.cumsum([0, *(entry["rows"] for entry in entries)])
        """Of each table, and the end of the last."""
        self.tables = [read_table(folder / name) for name in self.names]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def places(self, rows: Numbers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The table of each row, and its number in there."""
        tables = np.searchsorted(self.starts, rows, side="right") - 1
        return tables, rows - self.starts[tables]

    def by_table(self, rows: Numbers) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Rows in ascending order: each table that has any, and their numbers in there."""
        tables, inside = self.places(rows)
        for number in np.unique(tables).tolist():
            yield number, inside[tables == number]


class CachedTexts(Tables):
    """The texts of a source; row numbers are those of its rows that are not blank."""

    def __init__(self, *, folder: Path, path: Path, manifest: dict[str, Any]) -> None:
        super().__init__(folder=folder, manifest=manifest)
        self.path = path
        self.told = manifest
        """The manifest."""
        self.labels = tuple(manifest["labels"])
        """By their codes."""
        self.multi_label: bool = manifest["several"]
        self.digest: str = manifest["digest"]
        """Of texts, labels and lines."""
        columns = [table["labels"] for table in self.tables]
        self.flat: list[NDArray[np.int32]] = [(one.values if self.multi_label else one).to_numpy() for one in columns]
        """Of each table, the codes of all its rows."""
        self.ends: list[NDArray[np.int32]] = [one.offsets.to_numpy() for one in columns if self.multi_label]
        """Where those of each row begin, and where the last ends; none where each row has one label."""

    @property
    def label_counts(self) -> Counter[str]:
        """How many texts have each label."""
        return Counter(self.told["labels"])

    def warnings(self) -> list[str]:
        """What is odd about them, in the words of training.data."""
        told, found = self.told, []
        if told["blank"]:
            lines = some_of([f"line {line}" for line in told["blank_lines"]], told["blank"])
            found.append(f"{self.path}: dropped {number_of(told['blank'], 'row')} with blank text: {lines}")
        found += odd_counts(self.path, self.label_counts)
        if told["none"]:
            lines = some_of([f"line {line}" for line in told["none_lines"]], told["none"])
            rows = f"{number_of(told['none'], 'row')} with no label, kept as examples of none"
            found.append(f"{self.path}: {rows}: {lines}")
        return found

    def texts(self, rows: Numbers) -> Iterator[str]:
        """Of rows in ascending order; those of a table at a time are in memory."""
        for number, inside in self.by_table(rows):
            yield from self.tables[number]["text"].take(inside).to_pylist()

    def sizes(self, rows: Numbers) -> NDArray[np.int64]:
        """Of each of the rows, bytes of its text in UTF-8."""
        sizes = np.empty(len(rows), dtype=np.int64)
        tables, inside = self.places(rows)
        for number in np.unique(tables).tolist():
            ends = np.frombuffer(self.tables[number]["text"].buffers()[1], dtype=np.int32)
            chosen = tables == number
            sizes[chosen] = ends[inside[chosen] + 1] - ends[inside[chosen]]
        return sizes

    def codes(self, row: int) -> list[int]:
        """Of the labels of a row."""
        (table,), (inside,) = self.places(np.array([row]))
        start, stop = self.ends[table][inside : inside + 2] if self.multi_label else (inside, inside + 1)
        codes: list[int] = self.flat[table][start:stop].tolist()
        return codes

    def code_of(self, rows: Numbers) -> NDArray[np.int32]:
        """(M,) of the one label that each row has."""
        found = [self.flat[table][inside] for table, inside in zip(*self.places(rows), strict=True)]
        return np.array(found, dtype=np.int32)

    def examples(self, rows: Numbers) -> Examples:
        """Rows in ascending order, in memory."""
        codes = [[self.labels[code] for code in self.codes(row)] for row in rows.tolist()]
        labels: list[Labels] = [tuple(one) for one in codes] if self.multi_label else [label for (label,) in codes]
        lines = [line for number, inside in self.by_table(rows) for line in _take(self.tables[number]["line"], inside)]
        return Examples(path=self.path, texts=list(self.texts(rows)), labels=labels, lines=lines)


def _take(column: Any, inside: NDArray[np.int64]) -> list[int]:
    return column.take(inside).to_pylist()  # type: ignore[no-any-return]
