"""Labelled texts in files: tables, lines that begin with __label__, folders of labels, standard input."""

import json
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol

from nlp_app.errors import DataError
from nlp_app.packing import open_file, plain_suffix
from nlp_app.recoding import open_text
from nlp_app.rows import Row, decoded_lines, place_of
from nlp_app.tables import check_value, column_names, noticed, read_rows

COLUMNS = ["text", "label"]
"""Of what has no columns of its own."""
MARK = "__label__"
"""Of fastText: before each label of a line."""
FIRST_LABEL, LATER_LABEL = (
    re.compile(form) for form in (r"__label__([^ \t\v\f]*)[ \t\v\f]?", r"[ \t\v\f]__label__([^ \t\v\f]*)")
)
"""Up to white space, as fastText has them."""
PACKED_MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\x28\xb5\x2f\xfd": ".zst"}
MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".feather", b"\xff\xff\xff\xff": ".arrow"}
STARTS = {"[": ".json", MARK: ".txt"}


class Source(Protocol):
    """Labelled texts with one set of columns."""

    name: str
    """In messages."""
    marked: bool
    """Whether a text has a list of labels by its form alone, as lines of fastText's have."""

    def columns(self) -> list[str]:
        """The names of its columns."""
        ...

    def rows(self, columns: Sequence[str], lists: Sequence[str]) -> Iterator[Row]:
        """The values of columns, as of nlp_app.tables.read_rows."""
        ...

    def place(self, line: int) -> str:
        """Where a row is, for people."""
        ...

    def notes(self) -> list[str]:
        """What was found out about it, and should be said."""
        ...

    def files(self) -> list[Path]:
        """The files that it is; none of what is no file."""
        ...


class TableFile:
    """A file that nlp_app.tables reads."""

    marked = False

    def __init__(self, path: Path, encoding: str | None = None, name: str | None = None) -> None:
        self.path, self.name = path, name or str(path)
        self._encoding = encoding

    def columns(self) -> list[str]:
        """The names of its columns."""
        with self._named():
            return column_names(self.path, encoding=self._encoding)

    def rows(self, columns: Sequence[str], lists: Sequence[str]) -> Iterator[Row]:
        """The values of columns."""
        with self._named():
            yield from read_rows(self.path, columns, lists, encoding=self._encoding)

    def place(self, line: int) -> str:
        """File and line."""
        return f"{self.name}:{line}"

    def notes(self) -> list[str]:
        """A delimiter or an encoding that its name does not tell."""
        with self._named():
            return [f"{self.name} {note}" for note in noticed(self.path, self._encoding)]

    def files(self) -> list[Path]:
        """Itself."""
        return [self.path]

    def _named(self) -> "_Named":
        return _Named(str(self.path), self.name)


class _Named:
    """Errors call a file by another name than it has on disk."""

    def __init__(self, path: str, name: str) -> None:
        self._path, self._name = path, name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DataError) and self._path != self._name:
            raise DataError(str(error).replace(self._path, self._name)) from None


class LabelledLines:
    """A file as fastText reads it: a text a line, its labels marked."""

    marked = True

    def __init__(self, path: Path, encoding: str | None = None, name: str | None = None) -> None:
        self.path, self.name = path, name or str(path)
        self._encoding = encoding

    def columns(self) -> list[str]:
        """Made ones."""
        return COLUMNS

    def rows(self, columns: Sequence[str], lists: Sequence[str]) -> Iterator[Row]:  # noqa: ARG002
        """Text and labels; blank lines are passed over."""
        places = [place_of(Path(self.name), COLUMNS, column) for column in columns]
        with _Named(str(self.path), self.name), open_text(self.path, self._encoding) as stream:
            for line, written in enumerate(decoded_lines(stream, self.path), start=1):
                if written.strip():
                    values = split_labels(written.rstrip("\r\n"))
                    check_value(values[0], self.path, line, "the line")
                    yield Row(line, tuple(values[place] for place in places))

    def place(self, line: int) -> str:
        """File and line."""
        return f"{self.name}:{line}"

    def notes(self) -> list[str]:
        """None: the marks are seen."""
        return []

    def files(self) -> list[Path]:
        """Itself."""
        return [self.path]


def split_labels(line: str) -> tuple[str, tuple[str, ...]]:
    """The text of a line, and its labels; those at its beginning are cut off, so that the text is what was written."""
    labels = []
    while found := FIRST_LABEL.match(line):
        labels.append(found[1])
        line = line[found.end() :]
    if MARK in line:
        labels += LATER_LABEL.findall(line)
        line = LATER_LABEL.sub("", line)
    return line, tuple(labels)


def has_label_lines(path: Path, encoding: str | None) -> bool:
    """Whether the first line that is not blank begins with a marked label."""
    try:
        with open_text(path, encoding) as stream:
            for line in decoded_lines(stream, path):
                if line.strip():
                    return line.startswith(MARK)
    except DataError:  # the reader of tables will say it
        pass
    return False


def entries(folder: Path) -> list[Path]:
    """What is in a folder, by name, but for hidden files, which are no data."""
    return sorted(one for one in folder.iterdir() if not one.name.startswith("."))


class LabelFolders:
    """A folder of folders, each named as the label of the .txt files in it."""

    marked = False

    def __init__(self, folder: Path, encoding: str | None = None) -> None:
        self.folder, self.name = folder, str(folder)
        self._encoding = encoding

    def files(self) -> list[Path]:
        """By label, then by name."""
        return self._found

    @cached_property
    def _found(self) -> list[Path]:
        return [
            file
            for label in entries(self.folder)
            if label.is_dir()
            for file in entries(label)
            if file.is_file() and plain_suffix(file) == ".txt"
        ]

    def columns(self) -> list[str]:
        """Made ones."""
        return COLUMNS

    def rows(self, columns: Sequence[str], lists: Sequence[str]) -> Iterator[Row]:  # noqa: ARG002
        """Each file whole, a line end at its end left out."""
        places = [place_of(self.folder, COLUMNS, column) for column in columns]
        for number, file in enumerate(self.files(), start=1):
            with open_text(file, self._encoding) as stream:
                text = "".join(decoded_lines(stream, file)).removesuffix("\n").removesuffix("\r")
            check_value(text, file, 1, "the file")
            values = (text, file.parent.name)
            yield Row(number, tuple(values[place] for place in places))

    def place(self, line: int) -> str:
        """The file."""
        return str(self.files()[line - 1])

    def notes(self) -> list[str]:
        """What the labels are."""
        return [f"{self.name}: the label of a text is the name of its folder"]


class TemporaryFolder:
    """A folder that goes with its object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="nlp_app-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class StandardInput:
    """What is piped in, in any format, kept in a temporary file while it is read twice."""

    def __init__(self, encoding: str | None = None) -> None:
        if sys.stdin is None:
            raise DataError("standard input is closed: pipe labelled texts into it, or name a file")
        self._folder = TemporaryFolder()
        raw = self._folder.path / "standard-input"
        with raw.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        path = raw.rename(raw.with_name(raw.name + ending_of(raw)))
        self.name = "standard input"
        kind = LabelledLines if plain_suffix(path) == ".txt" else TableFile
        self._source: Source = kind(path, encoding, self.name)
        self.marked = self._source.marked

    def columns(self) -> list[str]:
        """The names of its columns."""
        return self._source.columns()

    def rows(self, columns: Sequence[str], lists: Sequence[str]) -> Iterator[Row]:
        """The values of columns."""
        return self._source.rows(columns, lists)

    def place(self, line: int) -> str:
        """The line."""
        return self._source.place(line)

    def notes(self) -> list[str]:
        """What the file's reader found out."""
        return self._source.notes()

    def files(self) -> list[Path]:
        """None that is there again for another run."""
        return []


def ending_of(raw: Path) -> str:
    """What the name of a file should end in, by how it begins: .csv where nothing else is seen."""
    with raw.open("rb") as stream:
        packing = next((one for magic, one in PACKED_MAGIC.items() if _begins(stream, magic)), "")
    packed = raw.with_name(f"packed{packing}") if packing else raw
    if packing:
        packed.hardlink_to(raw)
    with open_file(packed) as stream:
        begun = stream.read(1 << 16)
    if packing:
        packed.unlink()
    if plain := next((one for magic, one in MAGIC.items() if begun.startswith(magic)), ""):
        return plain + packing
    text = begun.decode(errors="replace").lstrip("\ufeff \t\r\n")
    first = text.partition("\n")[0]
    if text.startswith("{"):
        return (".jsonl" if _is_row(first) else ".json") + packing
    found = next((ending for start, ending in STARTS.items() if text.startswith(start)), "")
    return (found or (".tsv" if "\t" in first and "," not in first else ".csv")) + packing


def _is_row(line: str) -> bool:
    """Whether it is a whole object, and none that has rows in it."""
    try:
        values = json.loads(line).values()
    except (ValueError, RecursionError):
        return False
    return not any(isinstance(one, list) and one and isinstance(one[0], dict) for one in values)


def _begins(stream: IO[bytes], magic: bytes) -> bool:
    stream.seek(0)
    return stream.read(len(magic)) == magic
