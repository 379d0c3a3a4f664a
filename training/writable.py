"""A file that is written at the end of the work: whether it can be is found out before the work."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from nlp_app.errors import OutputError
from nlp_app.folder import is_among, is_complete, writing


def check_file(flag: str, path: Path) -> None:
    """Raise an OutputError where no file can be written, or where it would be something's place.

    Args:
        flag: that the path was given with.
        path: of the file, which is replaced where it is there.
    """
    if not path.parent.is_dir():
        raise OutputError(f"{flag} {path}: there is no folder {path.parent}: make it first")
    if path.exists() and not path.is_file():
        raise OutputError(f"{flag} {path} is no regular file: name a new one, or one to replace")
    check_outside(flag, path)
    folder = path.resolve().parent
    with writing(path), tempfile.TemporaryFile(dir=folder):  # by a file of its own: the one that is there stays
        pass


def check_apart(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Raise an OutputError where a file that is written is one that is read, or another one that is written.

    Args:
        outputs: by the flags that they were given with; None where one was not given.
        inputs: files that are read.
    """
    given, read = {flag: path for flag, path in outputs.items() if path is not None}, list(inputs)
    for flag, path in given.items():
        if is_among(path, read):
            raise OutputError(f"{flag} {path} is a file that is read: name another, the originals are never changed")
        if twin := next((other for other in given if other != flag and given[other].resolve() == path.resolve()), None):
            raise OutputError(f"{flag} and {twin} both name {path}: name two files")


def check_outside(flag: str, path: Path) -> None:
    """Raise an OutputError where a path lies in a checkpoint, which holds its own files and nothing else."""
    for folder in path.resolve().parents:
        if is_complete(folder):
            raise OutputError(f"{flag} {path} lies in the checkpoint {folder}: name a place outside of it")
