"""API keys: what is kept of them is their SHA-256. `python -m serving.keys` makes one.

A key has 256 bits of chance in it, so that nobody finds it by trying, and a slow hash would only slow requests.
"""

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from nlp_app.errors import ConfigError
from serving.problems import Refused
from serving.settings import Settings

ENTRY = re.compile(r"sha256:([0-9a-f]{64})")
BEARER = b"bearer "
logger = logging.getLogger(__name__)


class Keys:
    """Those that open a part of the server; where none are given it is open."""

    def __init__(self, *, entries: str | None, file: Path | None, flag: str) -> None:
        self._entries = entries
        self._file = file
        self._flag = flag
        self._digests: tuple[bytes, ...] = ()
        self.reload()

    def __bool__(self) -> bool:
        return bool(self._digests)

    def reload(self) -> None:
        """Read the file again.

        Raises:
            ConfigError: an entry is none, or there is none where some should be; the keys of before stay.
        """
        digests: tuple[bytes, ...] = ()
        if self._entries is not None:
            variable = f"NLP_APP_{self._flag.upper().replace('-', '_')}"
            digests += _some(self._entries.split(","), f"--{self._flag} (or {variable})")
        if self._file is not None:
            digests += _some(_lines(self._file, self._flag), str(self._file))
        self._digests = digests

    def reload_or_tell(self) -> None:
        """Read the file again; where that fails the log says why."""
        try:
            self.reload()
        except ConfigError as error:
            logger.error("the keys of --%s stay as they were: %s", self._flag, error)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Refused with 401 where there are keys and the request has none of them."""
        if self._digests and not self._known(_given(headers)):
            raise Refused(401, "the request has no valid API key: send the header Authorization: Bearer KEY")

    def _known(self, key: bytes) -> bool:
        digest = hashlib.sha256(key).hexdigest().encode()
        found = False
        for one in self._digests:  # all of them, so that the time says nothing
            found |= hmac.compare_digest(digest, one)
        return found


def client_keys(settings: Settings) -> Keys:
    """Of those who ask; a ConfigError where they are no keys."""
    return Keys(entries=settings.api_keys, file=settings.api_keys_file, flag="api-keys")


def admin_keys(settings: Settings) -> Keys:
    """Of those who reload; a ConfigError where they are no keys."""
    return Keys(entries=settings.admin_keys, file=settings.admin_keys_file, flag="admin-keys")


def _given(headers: Mapping[bytes, bytes]) -> bytes:
    authorization = headers.get(b"authorization", b"")
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    return headers.get(b"x-api-key", b"")


def _lines(file: Path, flag: str) -> Sequence[str]:
    try:
        return [line.partition("#")[0] for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--{flag}-file {file} cannot be read ({reason})") from None


def _some(entries: Sequence[str], where: str) -> tuple[bytes, ...]:
    digests = []
    for number, entry in enumerate(entries, start=1):
        if not entry.strip():
            continue
        found = ENTRY.fullmatch(entry.strip().lower())
        if found is None:
            raise ConfigError(
                f"{where}: entry {number} is no hashed key: each is sha256: and 64 hex digits; "
                "make one with python -m serving.keys"
            )
        digests.append(found[1].encode())
    if not digests:
        raise ConfigError(f"{where} has no key, and without one all were let in: add one, or leave it out")
    return tuple(digests)


def main() -> None:
    """Print a new key, and what to put into the file or the environment of the server."""
    key = secrets.token_urlsafe(32)
    print(f"the key, for the client:  {key}")
    print(f"its hash, for the server: sha256:{hashlib.sha256(key.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
