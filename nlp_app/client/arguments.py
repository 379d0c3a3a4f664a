"""What a client is told, checked."""

import math
import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from nlp_app.errors import ConfigError

NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?")
KEY = re.compile(r"[!-~]+")
"""Of a header, and of a key: ASCII."""


def check_whole(name: str, value: object, *, at_least: int) -> None:
    """Raise ConfigError where an argument is no whole number, or too small a one."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ConfigError(f"{name} is {value!r}, but must be a whole number of {at_least} or more")


def check_flag(name: str, value: object) -> None:
    """Raise ConfigError where an argument is neither True nor False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}, but must be True or False")


def check_seconds(name: str, value: object) -> None:
    """Raise ConfigError where an argument is no number of seconds to wait."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{name} is {value!r}, but must be a number of seconds above 0")


def read_model(name: str) -> str:
    """A model's name in a path; `..` would name another path."""
    if not isinstance(name, str) or not name.isprintable() or name in ("", ".", ".."):
        raise ConfigError(f"model is {name!r}, but must be the name of a model: GET /models lists them")
    return quote(name, safe="")


def read_headers(headers: Mapping[str, str], api_key: str | None) -> dict[str, str]:
    """Those of every request."""
    for name, value in headers.items():
        if not (isinstance(name, str) and NAME.fullmatch(name) and isinstance(value, str) and VALUE.fullmatch(value)):
            raise ConfigError(f"headers[{name!r}] is no header: its name and value must be printable ASCII")
    own = {"Content-Type": "application/json"}
    if api_key is not None:
        if not (isinstance(api_key, str) and KEY.fullmatch(api_key)):
            raise ConfigError("api_key is no key: it must be a str of printable ASCII without spaces")
        own["Authorization"] = f"Bearer {api_key}"
    return {name: value for name, value in headers.items() if name.title() not in own} | own


def read_base_url(url: str) -> str:
    """Without the slash at its end."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # as the resolver will, which fails at some names
        whole = parts.scheme in ("http", "https") and host and (parts.port is None or parts.port > 0)
        extra = parts.username is not None or "?" in url or "#" in url or not KEY.fullmatch(url)
    except (ValueError, AttributeError, TypeError):
        whole, extra = False, False
    if not whole or extra:  # not quoted: it may hold a password
        raise ConfigError(
            "base_url is no address of a server: write it as http://HOST:PORT, without a user name, ? or #"
        )
    return url.rstrip("/")
