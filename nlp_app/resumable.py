"""An output of lines that is written as it comes, goes on where it was, and has its name when it is whole."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from nlp_app.errors import OutputError
from nlp_app.folder import taken


def parts_of(path: Path) -> tuple[Path, Path]:
    """The files beside an output that are there as long as it is not whole."""
    return path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")


def check_same(before: Mapping[str, Any], asked: Mapping[str, Any], when: str) -> None:
    """Raise an OutputError where what is there is the answer to something else.

    Args:
        before: JSON values that it was the answer to.
        asked: those of now.
        when: it was so, as the end of a sentence.
    """
    for name, value in asked.items():
        if before.get(name) != value:
            was = f"{before.get(name)!r} when {when}, and is {value!r} now"
            raise OutputError(f"--resume: {name} was {was}: give the same, or start over with --overwrite")


class Lines:
    """Lines for FILE in FILE.part, beside it FILE.part.json, which tells what they are the answer to."""

    def __init__(self, path: Path, *, asked: Mapping[str, Any], at_once: int, resume: bool, overwrite: bool) -> None:
        """Begin, or go on.

        Args:
            path: what it will be called.
            asked: JSON values that must be the same to go on.
            at_once: lines that are written together; what is less than that at the end was torn, and is written again.
            resume: go on with the part that is there, if any.
            overwrite: replace what is there.

        Raises:
            OutputError: the file is there, or a part that nobody asked to go on with, or one of something else or of a
                run that goes on.
        """
        self.path, self._asked, self._at_once = path, dict(asked), at_once
        self._part, self._told = parts_of(path)
        self.done = 0
        """Lines that were there."""
        if path.exists() and not overwrite:
            raise OutputError(f"--output {path} exists: name another file, or replace it with --overwrite")
        if self._part.exists() and not (resume or overwrite):
            raise OutputError(f"{self._part} is of a run that was stopped: go on with --resume, or --overwrite it")
        self._check_ours()
        self._stream: IO[bytes] = self._part.open("ab")
        try:
            self._begin(resume=resume)
        except BaseException:
            self._stream.close()
            raise

    def write(self, lines: Sequence[bytes]) -> None:
        """Add whole lines; they are on the disk when this is left."""
        try:
            self._stream.write(b"".join(lines))
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            why = error.strerror or error
            raise OutputError(
                f"{self._part} cannot be written: {why}; what is whole stays: make room, then --resume"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        with suppress(OSError):  # of a full disk: said by write
            self._stream.close()
        if kind is None:
            self._part.replace(self.path)
            self._told.unlink()
        elif not self._part.stat().st_size:  # nothing to go on from
            self._part.unlink()
            self._told.unlink()

    def _check_ours(self) -> None:
        """Raise an OutputError where a stranger's files have the names."""
        if not self._told.exists():
            strange, stranger = self._part.exists() and self._part.stat().st_size > 0, self._part
        else:
            told, stranger = _json_of(self._told), self._told
            strange = not isinstance(told, dict) or not told.keys() <= self._asked.keys()
        if strange:
            raise OutputError(f"{stranger} is none of this program's files: move it, or name another --output")

    def _begin(self, *, resume: bool) -> None:
        if not taken(self._stream.fileno()):
            raise OutputError(f"another run writes {self._part}: wait for it, or name another --output")
        if resume and self._told.exists():
            before = json.loads(self._told.read_bytes())
            check_same(before, json.loads(json.dumps(self._asked)), f"{self._part} was begun")
            self.done = self._cut()
        else:
            os.truncate(self._part, 0)  # first: what is told next is not of it
            self._told.write_text(json.dumps(self._asked) + "\n")

    def _cut(self) -> int:
        """Leave whole groups of lines alone; gives how many lines they are."""
        ends, place = [0], 0
        with self._part.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                place += len(line)
                if number % self._at_once == 0 and line.endswith(b"\n"):
                    ends.append(place)
        os.truncate(self._part, ends[-1])
        return (len(ends) - 1) * self._at_once


def _json_of(path: Path) -> Any:
    """None of what is none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
