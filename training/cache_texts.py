"""The first stage of the cache: labelled texts read once, checked, and kept in tables of Arrow.

A table has the texts of some thousand rows, the codes of their labels and their lines. Blank texts are left out. Codes
are given in the order in which labels are first seen, so a table that is written needs no second look.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from nlp_app.errors import DataError
from training.cache_files import (
    Entry,
    alone,
    caching,
    key_of,
    open_sealed,
    read_table,
    record,
    rewrite_journal,
    seal,
    whole_entries,
    write_table,
)  # fmt: skip
from training.cached_texts import CachedTexts
from training.data import ALL_BLANK, EXAMPLES_SHOWN
from training.stages import Stage
from training.stream import LabelledText, Stream

FORMAT = 1
"""Of the tables and of what is told of them; another one is another cache."""
ROWS, CHARACTERS = 65_536, 16_000_000
"""Of a table, at most: what is read again, and tokenised again, where a run is killed; and what is in memory."""
GROWTH = 1.5
"""Bytes of the whole cache for each of the texts (docs/decisions.md)."""


@dataclass(kw_only=True)
class _Reading:
    """How far the stage is."""

    labels: dict[str, int] = field(default_factory=dict)
    """With their codes."""
    entries: list[Entry] = field(default_factory=list)

    def total(self, name: str) -> int:
        """Of all tables so far."""
        return sum(entry[name] for entry in self.entries)

    def add(self, entry: Entry) -> None:
        """Another table is whole."""
        self.entries.append(entry)
        for label in entry["labels"]:
            self.labels[label] = len(self.labels)


def cache_texts(source: Stream, cache: Path, console: Console) -> CachedTexts:
    """The texts of a source in the cache, where they are already, or read now.

    Raises:
        DataError: the source has no row, only blank ones, or one that breaks a rule.
        OutputError: the cache cannot be written.
    """
    folder = cache / f"texts-{key_of(FORMAT, source.key())}"
    with caching(folder, need_of(source)), alone(folder, console.print):
        manifest = open_sealed(folder)
        if manifest is None:
            manifest = _read(source, folder, console)
        else:
            console.print(f"{manifest['rows']:,} texts of {source.path} are in the cache in {folder}")
    return CachedTexts(folder=folder, path=source.path, manifest=manifest)


def need_of(source: Stream) -> int:
    """Bytes of the whole cache, about."""
    return int(GROWTH * source.bytes)


def _read(source: Stream, folder: Path, console: Console) -> dict[str, Any]:
    """Read what is not in the folder yet; gives the manifest."""
    reading = _Reading()
    entries = whole_entries(folder)
    for number, entry in enumerate(entries):
        if entry["name"] != _name(number):  # what comes after a gap has codes that may be others now
            rewrite_journal(folder, entries[:number])
            break
        reading.add(entry)
    console.print(f"reading {source.path} into the cache in {folder}: about {need_of(source) / 1e9:,.2f} GB in all")
    if reading.entries:
        console.print(f"{reading.total('rows'):,} texts were read before: going on from there")
    rows = islice(source.read(), reading.total("read"), None)
    with Stage(console=console, name="reading", done=_share(reading, source)) as stage:
        for piece in pieces(rows):
            entry = _write(folder / _name(len(reading.entries)), piece, reading.labels)
            record(folder, entry)
            reading.add(entry)
            stage.advance(len(piece), _share(reading, source))
        if not reading.total("rows"):
            blank = reading.total("read") > 0
            raise DataError(
                f"{source.path}: {ALL_BLANK}" if blank else
                f"{source.path} holds no row: there must be at least one text"
            )  # fmt: skip
        stage.done(f"read {reading.total('rows'):,} texts")
    return seal(folder, _told(folder, reading), reading.entries)


def pieces(rows: Iterable[LabelledText]) -> Iterator[list[LabelledText]]:
    """The rows of each table: up to ROWS of them, and fewer where they are long."""
    piece: list[LabelledText] = []
    characters = 0
    for row in rows:
        piece.append(row)
        characters += len(row.text)
        if len(piece) == ROWS or characters >= CHARACTERS:
            yield piece
            piece, characters = [], 0
    if piece:
        yield piece


def _write(path: Path, piece: list[LabelledText], known: dict[str, int]) -> Entry:
    """Write a table; gives its entry, with what the rows have that is to be told."""
    rows = [row for row in piece if row.text.strip()]
    texts, labels, lines = zip(*rows, strict=True) if rows else ((), (), ())
    several = isinstance(piece[0].labels, tuple)
    flat = list(chain.from_iterable(labels)) if several else labels
    new = [label for label in dict.fromkeys(flat) if label not in known]
    codes = known | {label: len(known) + place for place, label in enumerate(new)}
    column = pa.array([codes[label] for label in flat], pa.int32())
    if several:
        ends = np.cumsum([0, *map(len, labels)], dtype=np.int32)
        column = pa.ListArray.from_arrays(pa.array(ends), column)
    entry = write_table(
        path, {"text": pa.array(texts, pa.string()), "labels": column, "line": pa.array(lines, pa.int64())}
    )
    blank = [row.line for row in piece if not row.text.strip()] if len(rows) < len(piece) else []
    none = [line for line, one in zip(lines, labels, strict=True) if not one] if several else []
    characters = sum(map(len, texts))
    return {
        **entry, "read": len(piece), "labels": new, "several": several, "characters": characters,
        "size": characters + sum(map(len, flat)), "blank": len(blank), "blank_lines": blank[:EXAMPLES_SHOWN],
        "none": len(none), "none_lines": none[:EXAMPLES_SHOWN],
    }  # fmt: skip


def _told(folder: Path, reading: _Reading) -> dict[str, Any]:
    """What the manifest says of the whole."""
    counts: Counter[int] = Counter()
    for entry in reading.entries:
        column = read_table(folder / entry["name"])["labels"]
        flat = column.values if entry["several"] else column
        counts.update(dict(enumerate(np.bincount(flat.to_numpy(), minlength=1).tolist())))
    return {
        "format": FORMAT,
        "several": any(entry["several"] for entry in reading.entries),
        "labels": {label: counts[code] for label, code in reading.labels.items()},
        **{name: reading.total(name) for name in ("rows", "characters", "blank", "none")},
        "blank_lines": [line for entry in reading.entries for line in entry["blank_lines"]][:EXAMPLES_SHOWN],
        "none_lines": [line for entry in reading.entries for line in entry["none_lines"]][:EXAMPLES_SHOWN],
        "digest": key_of([entry["sha256"] for entry in reading.entries]),
    }


def _share(reading: _Reading, source: Stream) -> float:
    """Of the source that is read, about: a row has two more characters that are no text."""
    return (reading.total("size") + 2 * reading.total("read")) / max(1, source.bytes)


def _name(number: int) -> str:
    return f"texts-{number:05}.arrow"
