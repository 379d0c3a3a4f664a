"""What a client asks, how long it waits, and when it gives up; nlp_app.client sends and sleeps.

    NlpAppError
    `-- ServerError              the server gave no prediction
        |-- ServerRefused        it said why; asking again would not help
        |-- ServerUnreachable    every request that was allowed came to nothing
        `-- UnexpectedAnswer     it answered with something else than predictions

No message holds a text or a key.
"""

import json
import math
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote, urlsplit

from nlp_app.errors import ConfigError, NlpAppError

T = TypeVar("T")
MAX_TEXT_BYTES = 1_000_000
"""Of the texts of one request as JSON; the server takes 2 MiB by default. A longer text goes alone."""
MAX_EXPLAINED = 32
"""Texts of one request with explain, as the server has it by default."""
BUSY = (429, 503)
"""Statuses that ask for patience."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
"""The most that is waited after the first request, doubled after each, and the most after any."""
HEAD_START_S = 0.05
"""By how much the server gives up before its client, which so learns why."""
MAX_DETAIL = 500
NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
VALUE = re.compile(r"([!-~]([ -~]*[!-~])?)?")
KEY = re.compile(r"[!-~]+")
"""Of a header, and of a key: ASCII."""


class ServerError(NlpAppError):
    """The server gave no prediction."""


class ServerRefused(ServerError):
    """The server refused the request, and would again."""

    def __init__(self, message: str, *, status: int, detail: str) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail
        """The server's own sentence; empty where it gave none."""


class ServerUnreachable(ServerError):
    """No answer came within the retries and the time that were allowed."""

    def __init__(self, message: str, *, status: int | None, detail: str) -> None:
        super().__init__(message)
        self.status = status
        """429 or 503 where the last request got that; None where it got nothing."""
        self.detail = detail


class UnexpectedAnswer(ServerError):
    """What came is no answer of an nlp_app server."""


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


class Turn(Generic[T]):
    """A question from its first request to its answer."""

    def __init__(
        self,
        *,
        question: Question[T],
        retries: int,
        timeout_s: float,
        clock: Callable[[], float],
        uniform: Callable[[], float],
    ) -> None:
        self.question = question
        self.answer: T
        self._requests = 0
        self._retries = retries
        self._clock = clock
        self._uniform = uniform
        self._began = clock()
        self._until = self._began + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds before it gives up; never 0, which would mean no limit to some."""
        return max(self._until - self._clock(), 0.001)

    @property
    def over(self) -> bool:
        """Whether its time has passed."""
        return self._clock() >= self._until

    def headers(self) -> dict[str, str]:
        """Those of the next request."""
        left_s = self.left_s
        return {"X-Request-Timeout-Ms": str(math.ceil(1000 * max(left_s - HEAD_START_S, left_s / 2)))}

    def take(self, outcome: Answer | Failure) -> float | None:
        """Take what a request came to.

        Returns:
            None where `answer` holds the answer, else the seconds to wait before asking again.

        Raises:
            ServerRefused, ServerUnreachable, UnexpectedAnswer: there will be none.
        """
        self._requests += 1
        if isinstance(outcome, Answer) and outcome.status not in BUSY:
            self.answer = self._read(outcome)
            return None
        wait_s = self._wait_s(outcome)
        if self._requests > self._retries or self._clock() + wait_s >= self._until:
            raise self._unreachable(outcome)
        return wait_s

    def _wait_s(self, outcome: Answer | Failure) -> float:
        """As long as the server says, and by chance longer, so that not all who were told the same return at once."""
        told = outcome.retry_after_s() if isinstance(outcome, Answer) else 0.0
        most = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._requests - 1, 64))
        return told + self._uniform() * most

    def _read(self, answer: Answer) -> T:
        if answer.status != 200:
            raise self._refused(answer.status, answer.detail())
        try:
            return self.question.read(json.loads(answer.body))
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            pass  # its message may hold a text
        raise UnexpectedAnswer(f"{self._place} was answered, but not as an nlp_app server does: check base_url")

    def _refused(self, status: int, detail: str) -> ServerRefused:
        why = detail or "it gave no reason, as an nlp_app server would: check base_url, and any proxy before the server"
        return ServerRefused(f"{self._place} was refused with {status}: {why}", status=status, detail=detail)

    def _unreachable(self, outcome: Answer | Failure) -> ServerUnreachable:
        status, detail = (outcome.status, outcome.detail()) if isinstance(outcome, Answer) else (None, "")
        why = outcome.reason if isinstance(outcome, Failure) else f"{status}: {detail or 'no reason given'}"
        requests = "1 request" if self._requests == 1 else f"{self._requests} requests"
        times = f"{requests} and {self._clock() - self._began:.1f} s"
        return ServerUnreachable(
            f"{self._place} got no answer in {times} ({why}): see whether the server runs at base_url, or allow more "
            "retries or a longer timeout_s",
            status=status,
            detail=detail,
        )

    @property
    def _place(self) -> str:
        return f"{self.question.method} {self.question.url}{self.question.about}"


class Settings(TypedDict, total=False):
    """What both clients are told; each has a default in Policy."""

    model: str | None
    api_key: str | None
    timeout_s: float
    retries: int
    batch_size: int
    headers: Mapping[str, str] | None
    clock: Callable[[], float]
    uniform: Callable[[], float]


class Policy:
    """What a client was told, checked."""

    def __init__(
        self,
        base_url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 5,
        batch_size: int = 256,
        headers: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        check_whole("retries", retries, at_least=0)
        check_whole("batch_size", batch_size, at_least=1)
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s < math.inf:
            raise ConfigError(f"timeout_s is {timeout_s!r}, but must be a number of seconds above 0")
        self.headers = _read_headers(headers or {}, api_key)
        self._server = _read_base_url(base_url)
        self._model = self._server if model is None else f"{self._server}/models/{_read_model(model)}"
        self._timeout_s = timeout_s
        self._retries = retries
        self._batch_size = batch_size
        self._clock = clock
        self._uniform = uniform

    def begin(self, question: Question[T], *, retries: int | None = None) -> Turn[T]:
        """Start to ask a question; its time runs from here."""
        return Turn(
            question=question,
            retries=self._retries if retries is None else retries,
            timeout_s=self._timeout_s,
            clock=self._clock,
            uniform=self._uniform,
        )

    def info(self, read: Callable[[Any], T]) -> Question[T]:
        """Ask what is served."""
        return Question("GET", f"{self._model}/info", read)

    def ready(self) -> Question[bool]:
        """Ask whether the server answers."""
        return Question("GET", f"{self._server}/health/ready", bool)

    def predict(
        self, texts: Iterable[str], top_k: int, explain: bool, read: Callable[[Any, int], T]
    ) -> Iterator[Question[T]]:
        """Ask for the labels of texts, a batch at a time.

        Args:
            texts: any number of them.
            top_k: labels in `scores`.
            explain: whether each prediction has an `explanation`.
            read: from an answer's JSON, and the number of texts that it is about.

        Raises:
            ConfigError: an argument breaks a rule; before anything is sent.
        """
        check_whole("top_k", top_k, at_least=1)
        if not isinstance(explain, bool):
            raise ConfigError(f"explain is {explain!r}, but must be True or False")
        encoded = _encode(texts)
        most = min(self._batch_size, MAX_EXPLAINED) if explain else self._batch_size
        rest = b'],"top_k":%d,"explain":%s}' % (top_k, b"true" if explain else b"false")
        return (
            Question(
                "POST",
                f"{self._model}/predict",
                lambda values, count=stop - start: read(values, count),  # type: ignore[misc]
                b'{"inputs":[' + b",".join(encoded[start:stop]) + rest,
                f" with texts[{start}:{stop}]",
            )
            for start, stop in _spans(encoded, most)
        )


def _spans(encoded: Sequence[bytes], most: int) -> Iterator[tuple[int, int]]:
    """Where each batch starts and stops."""
    start = size = 0
    for place, text in enumerate(encoded):
        if place > start and (place - start == most or size + len(text) > MAX_TEXT_BYTES):
            yield start, place
            start, size = place, 0
        size += len(text) + 1
    if encoded:
        yield start, len(encoded)


def _encode(texts: Iterable[str]) -> list[bytes]:
    """Each text as JSON."""
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise ConfigError(f"texts is one {type(texts).__name__}, but must be a list of str: write [text]")
    return [_encode_one(text, place) for place, text in enumerate(texts)]


def _encode_one(text: str, place: int) -> bytes:
    if not isinstance(text, str):
        raise ConfigError(f"texts[{place}] is a {type(text).__name__}, but must be a str: convert it or leave it out")
    try:
        return json.dumps(text, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        pass  # it holds the text
    raise ConfigError(f"texts[{place}] holds half of a surrogate pair, which is no character: replace it")


def _timestamp(value: str) -> float | None:
    """Of an HTTP date; None of anything else."""
    try:
        found = parsedate_to_datetime(value)
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def check_whole(name: str, value: object, *, at_least: int) -> None:
    """Raise ConfigError where an argument is no whole number, or too small a one."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ConfigError(f"{name} is {value!r}, but must be a whole number of {at_least} or more")


def _read_model(name: str) -> str:
    """A model's name in a path; `..` would name another path."""
    if not isinstance(name, str) or not name.isprintable() or name in ("", ".", ".."):
        raise ConfigError(f"model is {name!r}, but must be the name of a model: GET /models lists them")
    return quote(name, safe="")


def _read_headers(headers: Mapping[str, str], api_key: str | None) -> dict[str, str]:
    for name, value in headers.items():
        if not (isinstance(name, str) and NAME.fullmatch(name) and isinstance(value, str) and VALUE.fullmatch(value)):
            raise ConfigError(f"headers[{name!r}] is no header: its name and value must be printable ASCII")
    own = {"Content-Type": "application/json"}
    if api_key is not None:
        if not (isinstance(api_key, str) and KEY.fullmatch(api_key)):
            raise ConfigError("api_key is no key: it must be a str of printable ASCII without spaces")
        own["Authorization"] = f"Bearer {api_key}"
    return {name: value for name, value in headers.items() if name.title() not in own} | own


def _read_base_url(url: str) -> str:
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
