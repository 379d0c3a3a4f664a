"""Labelled texts: read, checked, cleaned and split, with everything odd about them told."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nlp_app.errors import DataError
from nlp_app.rows import Value
from nlp_app.tables import join_columns, read_texts
from training.columns import choose_columns
from training.source_files import Source
from training.sources import Given, find_sources, name_of

Labels = str | tuple[str, ...]
"""Of one text: its label, or the set of them where a text may have several or none."""
EXAMPLES_SHOWN = 3
ALL_BLANK = "the text of every row is blank: is this the right text column?"
MOST_LABELS = 1000
"""More, and fewer than two texts for each: then the column is one of ids or of texts."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labelled texts and where they come from."""

    path: Path
    texts: list[str]
    labels: Sequence[Labels]
    """Of one kind for all texts."""
    lines: list[int]
    origins: Sequence[int] = ()
    """The place of each text's source among the sources."""
    sources: tuple[Source, ...] = ()
    """Where they were read."""
    notes: Sequence[str] = ()
    """What was found out while they were read, and should be said."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels or none."""
        return any(isinstance(labels, tuple) for labels in self.labels)

    @property
    def label_lists(self) -> list[tuple[str, ...]]:
        """The labels of each text, of whichever kind."""
        return [labels if isinstance(labels, tuple) else (labels,) for labels in self.labels]

    @property
    def characters(self) -> int:
        """Of all texts together."""
        return sum(map(len, self.texts))

    @property
    def label_counts(self) -> Counter[str]:
        """How many texts have each label."""
        return Counter(label for labels in self.label_lists for label in labels)

    def take(self, rows: Sequence[int]) -> "Examples":
        """The examples of these row numbers."""
        return Examples(
            path=self.path,
            texts=[self.texts[row] for row in rows],
            labels=[self.labels[row] for row in rows],
            lines=[self.lines[row] for row in rows],
            origins=[self.origins[row] for row in rows] if self.origins else (),
            sources=self.sources,
        )

    def place(self, row: int) -> str:
        """Where a text is, for people."""
        line = self.lines[row]
        return self.sources[self.origins[row]].place(line) if self.sources else f"{self.path}:{line}"

    def line(self, row: int) -> str:
        """The same, where the file has been named: its line, if there is one file."""
        return f"line {self.lines[row]}" if len(self.sources) < 2 else self.place(row)


def read_examples(
    given: Given | list[Source],
    *,
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    query: str | None = None,
    split: str = "train",
) -> Examples:
    """Read labelled texts; several text columns are joined by a space.

    Args:
        given: where from, as of training.sources.find_sources, or what it gave.
        text_columns: their names; none to look for one.
        label_column: its name; None to look for it.
        separator: what stands between the labels of a text; None where a text has one, or the column holds lists.
        encoding: of files of text; None for what they say themselves, and UTF-8.
        query: of a database.
        split: of the hub, where none is named.

    Raises:
        DataError: a source cannot be used, holds no row, or a row breaks the rules for labels.
    """
    sources = given if isinstance(given, list) else find_sources(given, encoding=encoding, query=query, split=split)
    texts_in, label_in, notes = choose_columns(sources[0].columns(), text_columns, label_column)
    texts, values, lines, origins = [], [], [], []
    for origin, source in enumerate(sources):
        notes += source.notes()
        for line, (*parts, value) in source.rows([*texts_in, label_in], [label_in]):
            texts.append(join_columns(parts))
            values.append(value)
            lines.append(line)
            origins.append(origin)
    name = name_of(sources)
    if not texts:
        raise DataError(f"{name} holds no row: there must be at least one text")
    if all(source.marked for source in sources) and max(map(len, values)) == 1:  # type: ignore[arg-type]
        values = [value[0] if value else None for value in values]
    read = several_labels if separator or any(isinstance(value, tuple) for value in values) else one_label
    places = zip(origins, lines, strict=True)
    labels = [
        read(value, sources[origin].place(line), label_in, separator)
        for value, (origin, line) in zip(values, places, strict=True)
    ]
    examples = Examples(
        path=Path(name), texts=texts, labels=labels, lines=lines, origins=origins, sources=tuple(sources), notes=notes
    )
    _check_alike(examples)
    return examples


def _check_alike(examples: Examples) -> None:
    """Raise a DataError where the labels of one source are numbers, and those of another are not."""
    labels: dict[str, set[str]] = defaultdict(set)
    for origin, several in zip(examples.origins, examples.label_lists, strict=True):
        labels[examples.sources[origin].name].update(several)
    check_numbers(labels)


def check_numbers(labels: Mapping[str, set[str]]) -> None:
    """Raise a DataError where the labels of one name are numbers, and those of another are not."""
    kinds = {name: all(map(str.isdigit, found)) for name, found in labels.items() if found}
    first = next((name for name, are in kinds.items() if are), None)
    second = next((name for name in kinds if not any(map(str.isdigit, labels[name]))), None)
    if first is not None and second is not None:
        number, word = min(labels[first]), min(labels[second])
        raise DataError(
            f"the labels of {first} are numbers, as {number!r}, those of {second} words, as {word!r}: write both alike"
        )


def read_strangers(path: Path | None, text_columns: Sequence[str], encoding: str | None = None) -> list[str]:
    """The texts of a file that are none of the model's kind, without a label; none where there is no file.

    Raises:
        DataError: the file cannot be used, or holds no text.
    """
    texts = [] if path is None else list(read_texts(path, text_columns, encoding=encoding))
    if path is not None and not texts:
        raise DataError(f"{path} holds no text: there must be at least one")
    return texts


def one_label(value: Value, place: str, column: str, _: str | None) -> Labels:
    """The label of a text that has one."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: the row has no {column!r}: give it a label or remove it")
    return value


def several_labels(value: Value, place: str, column: str, separator: str | None) -> Labels:
    """The labels of a text that may have several or none."""
    if isinstance(value, str) and value and separator is None:
        raise DataError(f"{place}: {column!r} is a text, where other rows have a list: write [{value!r}]")
    if isinstance(value, tuple):
        labels = value
    else:
        labels = tuple(label.strip() for label in value.split(separator)) if value and value.strip() else ()
    for label in labels:
        if not label.strip():
            raise DataError(f"{place}: {column!r} holds a blank label: name it or remove it")
        if separator and separator in label:
            raise DataError(
                f"{place}: the label {label!r} has the separator {separator!r} in it: "
                "a list needs no --label-separator, leave it out"
            )
    return tuple(dict.fromkeys(labels))


def without_blank(examples: Examples) -> tuple[Examples, list[str]]:
    """Drop rows whose text is blank; gives the rest and what to tell of it.

    Raises:
        DataError: no row is left.
    """
    rows = [row for row, text in enumerate(examples.texts) if text.strip()]
    if not rows:
        raise DataError(f"{examples.path}: {ALL_BLANK}")
    if len(rows) == len(examples):
        return examples, []
    kept = set(rows)
    dropped = [examples.line(row) for row in range(len(examples)) if row not in kept]
    return examples.take(rows), [
        f"{examples.path}: dropped {count_of(dropped, 'row')} with blank text: {_some(dropped)}"
    ]


def odd_labels(examples: Examples) -> list[str]:
    """What to tell of the labels: those with one text, and those that differ only in case or surrounding space."""
    told = odd_counts(examples.path, examples.label_counts)
    if none := [f"line {line}" for line, labels in zip(examples.lines, examples.labels, strict=True) if labels == ()]:
        told.append(f"{examples.path}: {count_of(none, 'row')} with no label, kept as examples of none: {_some(none)}")
    return told


def odd_counts(path: Path, counts: Mapping[str, int]) -> list[str]:
    """What to tell of labels, by the number of texts that each has."""
    single = [repr(label) for label, count in counts.items() if count == 1]
    alike: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        alike[label.strip().casefold()].append(label)
    twins = [" and ".join(map(repr, labels)) for labels in alike.values() if len(labels) > 1]
    told = []
    if single:
        told.append(f"{path}: {count_of(single, 'label')} with one text each, kept for training only: {_some(single)}")
    if twins:
        told.append(
            f"{path}: {count_of(twins, 'group')} of labels differing only in case or surrounding space, "
            f"kept as separate classes: {_some(twins)}"
        )
    return told


class Counted(Protocol):
    """A part of the texts whose labels were counted."""

    @property
    def path(self) -> Path:
        """Where they come from."""

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels or none."""

    @property
    def label_counts(self) -> Counter[str]:
        """How many texts have each label."""

    def __len__(self) -> int: ...


def label_set(train: Counted) -> tuple[str, ...]:
    """The classes, sorted.

    Raises:
        DataError: there is only one, or so many that the column can't be one of labels.
    """
    labels = tuple(sorted(train.label_counts))
    if not labels:
        raise DataError(f"{train.path}: no row has a label: a classifier needs at least two labels")
    if len(labels) > MOST_LABELS and len(labels) > len(train) / 2:
        raise DataError(
            f"{train.path}: {len(labels):,} labels for {len(train):,} texts: is --label-column a column of labels?"
        )
    if len(labels) < 2:
        every = f"the only label is {labels[0]!r}" if train.multi_label else f"every row has the label {labels[0]!r}"
        raise DataError(f"{train.path}: {every}: a classifier needs at least two labels")
    return labels


def check_kind(examples: Examples, *, multi_label: bool) -> None:
    """Raise a DataError where texts have lists of labels, but the model gives one label a text."""
    if examples.multi_label and not multi_label:
        raise DataError(
            f"{examples.path} has lists of labels, but the model gives one label a text: write one in each row"
        )


def check_labels_known(examples: Examples, labels: Sequence[str]) -> None:
    """Raise a DataError where a label was never seen in training."""
    known = set(labels)
    for row, several in enumerate(examples.label_lists):
        for label in several:
            if label not in known:
                raise DataError(
                    f"{examples.place(row)}: the label {label!r} was never seen in training: "
                    "correct it, or add training rows that have it"
                )


def split(examples: Examples, *, share: float, seed: int) -> tuple[Examples, Examples]:
    """Hold back a stratified part: each label gives its share, rounded by chance so that the whole part is of size.

    A text with several labels counts for the rarest of them. Each label keeps a text that stays. The same examples,
    share and seed give the same parts, in the order of the file.

    Returns:
        what stays, and what is held back: at least one text.

    Raises:
        DataError: no text can be spared.
    """
    draw = random.Random(seed)
    by_label: dict[str, list[int]] = defaultdict(list)
    counts, lists = examples.label_counts, examples.label_lists
    for row, labels in enumerate(lists):
        by_label[min(labels, key=lambda label: (counts[label], label), default="")].append(row)
    shared = sorted(label for label, rows in by_label.items() if len(rows) > 1)
    held: set[int] = set()
    staying = Counter(counts)
    owed = 0.0  # what rounding, or a label's last text, took from the labels so far, given back by a later one
    for label in draw.sample(shared, len(shared)):
        owed += share * len(by_label[label])
        count = max(0, min(round(owed), len(by_label[label]) - 1))
        for row in draw.sample(by_label[label], count):
            if all(staying[one] > 1 for one in lists[row]):
                held.add(row)
                staying.subtract(lists[row])
                owed -= 1
    if not held:
        rows_of = (by_label[label] for label in sorted(by_label))
        spare = max(([row for row in rows if all(counts[one] > 1 for one in lists[row])] for rows in rows_of), key=len)
        if not spare:
            raise DataError(
                f"{examples.path}: every text is the only one of a label: give at least one label a second text"
            )
        held.add(draw.choice(spare))
    return examples.take([row for row in range(len(examples)) if row not in held]), examples.take(sorted(held))


def count_of(items: Sequence[object], noun: str) -> str:
    """`1 row`, `2 rows`."""
    return number_of(len(items), noun)


def number_of(count: int, noun: str) -> str:
    """The same by their number."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _some(items: Sequence[str]) -> str:
    return some_of(items[:EXAMPLES_SHOWN], len(items))


def some_of(first: Sequence[str], count: int) -> str:
    """The first EXAMPLES_SHOWN of so many."""
    more = count - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more > 0 else "")
