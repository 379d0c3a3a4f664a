"""A request, and what it came to."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar

T = TypeVar("T")
MAX_DETAIL = 500


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """One request, which may be sent several times."""

    method: str
    url: str
    read: Callable[[Any], T]
    """From the JSON of the answer; ValueError, LookupError, TypeError or ArithmeticError where it is something else."""
    body: bytes = b""
    about: str = ""
    """Which texts it holds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def detail(self) -> str:
        """The server's sentence, on one line; empty where there is none."""
        try:
            found = json.loads(self.body)["detail"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
        return " ".join(found.split())[:MAX_DETAIL] if isinstance(found, str) else ""

    def retry_after_s(self) -> float:
        """Seconds that the server asks to wait, said as a number or as a date; 0 where it says none."""
        value = self.headers.get("retry-after", "").strip()
        if value.isdecimal():
            return float(value)
        then = _timestamp(value)
        return max(0.0, then - (_timestamp(self.headers.get("date", "")) or time.time())) if then else 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """No whole response came."""

    reason: str


def _timestamp(value: str) -> float | None:
    """Of an HTTP date; None of anything else."""
    try:
        found = parsedate_to_datetime(value)
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
