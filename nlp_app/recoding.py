"""Files of text in any encoding as UTF-8, which is what the readers read."""

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from nlp_app.errors import ConfigError, DataError
from nlp_app.packing import open_file

UTF_8 = "utf-8"
MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""At the beginning of a file, which tell its encoding; that of UTF-8 is left out by the readers."""
CHARACTERS_AT_ONCE = 1 << 16


def check_encoding(name: str | None) -> None:
    """Raise a ConfigError where Python knows no such encoding of text."""
    try:
        if name is not None:
            "".encode(name)
            b"".decode(name)
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        raise ConfigError(f"--encoding is {name!r}, which is none: give utf-8, utf-16, cp1251, latin-1 …") from None


@contextmanager
def open_text(path: Path, encoding: str | None = None) -> Iterator[IO[bytes]]:
    """Open a file of text as UTF-8, unpacked where its name says so.

    Args:
        path: the file.
        encoding: its own; None for what the mark at its beginning says, and UTF-8 without one.

    Raises:
        DataError: the file cannot be read, or is not in that encoding.
    """
    with open_file(path) as stream:
        encoding = encoding or encoding_of(stream)
        if (
            codecs.lookup(encoding).name == UTF_8
        ):  # the readers decode it line by line, and tell the line of what is none
            yield stream
        else:
            yield io.BufferedReader(_Recoded(stream, path, encoding))


def encoding_of(stream: IO[bytes]) -> str:
    """What the mark at the beginning of a stream says, which stays where it is."""
    begun = cast(io.BufferedReader, stream).peek(2)
    return next((name for mark, name in MARKS.items() if begun.startswith(mark)), UTF_8)


class _Recoded(io.RawIOBase):
    """Text of another encoding as UTF-8; its lines end where they did."""

    def __init__(self, stream: IO[bytes], path: Path, encoding: str) -> None:
        self._text = io.TextIOWrapper(stream, encoding, newline="")
        self._path, self._encoding = path, encoding
        self._lines, self._rest = 1, b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, into: Any) -> int:
        """Fill as much as there is."""
        if not self._rest:
            self._rest = self._next().encode(errors="surrogatepass")
        given, self._rest = self._rest[: len(into)], self._rest[len(into) :]
        into[: len(given)] = given
        return len(given)

    def _next(self) -> str:
        try:
            text = self._text.read(CHARACTERS_AT_ONCE)
        except UnicodeError as error:
            reason = error.reason if isinstance(error, UnicodeDecodeError) else error
            raise DataError(
                f"{self._path}: after line {self._lines:,} stands what is not {self._encoding} ({reason}): "
                "name the file's own encoding with --encoding"
            ) from None
        self._lines += text.count("\n")
        return text
