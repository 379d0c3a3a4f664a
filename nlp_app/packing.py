"""Files as streams of bytes, unpacked where their name ends in .gz, .bz2 or .zst."""

import bz2
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from nlp_app.errors import DataError


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file; what goes wrong while it is read becomes a DataError."""
    ending = path.suffix.lower()
    try:
        with PACKED[ending][1](path) if ending in PACKED else path.open("rb") as stream:
            yield stream
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder: name a file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error, DamagedError) as error:
        kind = PACKED[ending][0] if ending in PACKED else "packed"
        raise DataError(
            f"{path} is no whole {kind} file ({error}): copy it again, or take {ending} off its name"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def is_packed(path: Path) -> bool:
    """Whether the name says that the file is packed."""
    return path.suffix.lower() in PACKED


def plain_suffix(path: Path) -> str:
    """The ending of a file's name as it would be unpacked, in lower case."""
    return (path.with_suffix("") if is_packed(path) else path).suffix.lower()


class DamagedError(Exception):
    """A packed file is cut short, or is none."""


class _Unpacked(io.RawIOBase):
    """A stream whose own errors, which the system knows no number of, are damage."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, into: Any) -> int:
        """Fill as much as there is."""
        try:
            given: bytes = self._stream.read(len(into))
        except OSError as error:
            if error.errno is None:
                raise DamagedError(error) from None
            raise
        into[: len(given)] = given
        return len(given)

    def close(self) -> None:
        """The stream too."""
        self._stream.close()
        super().close()


def _gzip(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb"))


def _bzip2(path: Path) -> IO[bytes]:
    return io.BufferedReader(_Unpacked(bz2.open(path, "rb")))


def _zstd(path: Path) -> IO[bytes]:
    try:
        import pyarrow as pa
    except ImportError:
        raise DataError(f"{path}: reading .zst needs pyarrow: pip install 'nlp_app[training]'") from None
    return io.BufferedReader(_Unpacked(pa.CompressedInputStream(pa.PythonFile(path.open("rb")), "zstd")))


PACKED: dict[str, tuple[str, Callable[[Path], IO[bytes]]]] = {
    ".gz": ("gzip", _gzip),
    ".bz2": ("bzip2", _bzip2),
    ".zst": ("zstd", _zstd),
}
"""By the ending of a file's name: what it is called, and what opens it."""
