"""Clients of a server (docs/http-api.md): predictions over HTTP, without torch in the process that asks.

    with Client("http://localhost:8000") as client:
        client.predict(["where is my parcel?", "charged twice"], top_k=3)

Predictions change nothing on a server, so a request that got no whole answer is sent again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar, Unpack

from nlp_app.client_policy import (
    Answer,
    Failure,
    Policy,
    Question,
    ServerError,
    ServerRefused,
    ServerUnreachable,
    Settings,
    Turn,
    UnexpectedAnswer,
    check_whole,
)
from nlp_app.errors import ConfigError

try:
    import httpx2
except ModuleNotFoundError:
    raise ConfigError(
        "nlp_app.client needs the package httpx2, which is not there: pip install 'nlp_app[client]'"
    ) from None

__all__ = [
    "AsyncClient", "Client", "Explanation", "LabelScore", "Prediction", "ServerError", "ServerInfo", "ServerRefused",
    "ServerUnreachable", "TokenContribution", "UnexpectedAnswer",
]  # fmt: skip
T = TypeVar("T")
FLAGS = ("truncated", "abstained", "out_of_scope")
"""Of a prediction, which say them only where they are true."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label and its probability."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class TokenContribution:
    """What a token adds; `start` and `end` are its place in the text."""

    token: str
    start: int
    end: int
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a label: baseline and contributions sum to what sets it apart."""

    label: str
    baseline: float
    tokens: tuple[TokenContribution, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one text, with the fields of nlp_app.predictor.Prediction that a server tells."""

    label: str
    """The most probable label."""
    score: float
    """Its probability."""
    scores: tuple[LabelScore, ...]
    """The top_k most probable labels, best first."""
    truncated: bool = False
    """True where the text was longer than the model reads."""
    labels: tuple[str, ...] | None = None
    """Those that the text is given, best first, where it may have several or none; None where it has one."""
    abstained: bool = False
    """True where the score is lower than what the model was told to answer with."""
    explanation: Explanation | None = None
    """What each token of the text adds to `label`, where that was asked for."""
    out_of_scope: bool = False
    """True where the text is like nothing that the model was trained on."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What is served."""

    name: str
    version: str
    labels: tuple[str, ...]
    limits: Mapping[str, int]
    """What a request may hold at most."""
    versions: Mapping[str, str]
    """Of the server's libraries."""
    metrics: Mapping[str, Any]
    """metrics.json of the checkpoint."""


def read_prediction(values: Mapping[str, Any]) -> Prediction:
    """A prediction from its JSON.

    Raises:
        LookupError, TypeError, ArithmeticError: it is none.
    """
    why = values.get("explanation")
    truncated, abstained, strange = (_is(values.get(flag, False), bool) for flag in FLAGS)
    return Prediction(
        **_scored(values),
        scores=tuple(LabelScore(**_scored(item)) for item in values["scores"]),
        labels=_strings(values["labels"]) if "labels" in values else None,
        explanation=None if why is None else _read_explanation(why),
        truncated=truncated,
        abstained=abstained,
        out_of_scope=strange,
    )


def _read_explanation(values: Mapping[str, Any]) -> Explanation:
    return Explanation(
        _is(values["label"], str), _number(values["baseline"]), tuple(_read_token(item) for item in values["tokens"])
    )


def _read_token(values: Mapping[str, Any]) -> TokenContribution:
    start, end = (_is(values[name], int) for name in ("start", "end"))
    return TokenContribution(_is(values["token"], str), start, end, _number(values["contribution"]))


def _read_predictions(values: Any, count: int) -> list[Prediction]:
    """Those of one answer, which must be as many as there were texts."""
    found = [read_prediction(_is(item, dict)) for item in _is(values, dict)["predictions"]]
    if len(found) != count:
        raise ValueError("not a prediction for each text")
    return found


def _read_info(values: Any) -> ServerInfo:
    model = values["model"]
    limits, versions, metrics = (_is(values[name], dict) for name in ("limits", "versions", "metrics"))
    labels = _strings(values["labels"])
    return ServerInfo(_is(model["name"], str), _is(model["version"], str), labels, limits, versions, metrics)


def _scored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"label": _is(values["label"], str), "score": _number(values["score"])}


def _strings(values: Any) -> tuple[str, ...]:
    return tuple(_is(value, str) for value in _is(values, list))


def _is(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(kind.__name__)
    return value


def _number(value: Any) -> float:
    return float(value if type(value) is int else _is(value, float))


def _failure(error: Exception) -> Failure:
    """Why no answer came; only what is said before a request is sent can hold nothing of it."""
    if isinstance(error, httpx2.TimeoutException | TimeoutError):
        return Failure("it did not answer in time")
    if isinstance(error, httpx2.ConnectError):
        return Failure(f"no connection: {' '.join(str(error).split())}")
    return Failure(f"the connection broke: {type(error).__name__}")


class Client:
    """A client that waits for each answer; several threads may share one."""

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        **settings: Unpack[Settings],
    ) -> None:
        """Check what it is told; nothing is sent yet.

        Args:
            base_url: where the server is, as http://HOST:PORT.
            transport: of httpx2, in place of its own.
            sleep: waits before a request is sent again.
            settings: `model`, the name of one of several, the server's default where it is None; `api_key`, sent as
                Authorization: Bearer; `timeout_s`, 30 by default, for each batch with all its requests and waits;
                `retries`, 5, after a batch's first request; `batch_size`, 256, texts in a request at most; `headers`,
                more of them; `clock` and `uniform`, in place of time.monotonic and random.random.

        Raises:
            ConfigError: one of them breaks a rule.
        """
        self._policy = Policy(base_url, **settings)
        self._sleep = sleep
        self._http = httpx2.Client(headers=self._policy.headers, transport=transport)

    def predict(self, texts: Iterable[str], top_k: int = 1, *, explain: bool = False) -> list[Prediction]:
        """Classify texts, a batch after the other.

        Args:
            texts: any number of them; a blank one is scored like any other.
            top_k: labels in `scores`, at most as many as there are.
            explain: whether each prediction has an `explanation`.

        Returns:
            A prediction for each text, in their order.

        Raises:
            ConfigError: an argument breaks a rule; nothing was sent.
            ServerError: a batch got no predictions.
        """
        questions = self._policy.predict(texts, top_k, explain, _read_predictions)
        return [prediction for question in questions for prediction in self._ask(question)]

    def info(self) -> ServerInfo:
        """Ask what is served.

        Raises:
            ServerError: no answer came.
        """
        return self._ask(self._policy.info(_read_info))

    def ready(self) -> bool:
        """Ask once whether the server answers: False too where it cannot be reached.

        Raises:
            ServerRefused: it lets nobody ask.
        """
        try:
            return self._take(self._policy.begin(self._policy.ready(), retries=0))
        except ServerUnreachable:
            return False

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: Question[T]) -> T:
        return self._take(self._policy.begin(question))

    def _take(self, turn: Turn[T]) -> T:
        while (wait_s := turn.take(self._send(turn))) is not None:
            self._sleep(wait_s)
        return turn.answer

    def _send(self, turn: Turn[T]) -> Answer | Failure:
        asked, headers, left_s = turn.question, turn.headers(), turn.left_s
        try:
            with self._http.stream(
                asked.method, asked.url, content=asked.body, headers=headers, timeout=left_s
            ) as response:
                body = b"".join(_in_time(response.iter_bytes(), turn))
        except httpx2.RequestError as error:
            return _failure(error)
        return Answer(response.status_code, response.headers, body)


def _in_time(chunks: Iterable[bytes], turn: Turn[T]) -> Iterator[bytes]:
    """The chunks, until the time is over: httpx2 limits the time of each, so that an answer could drip for ever."""
    for chunk in chunks:
        if turn.over:
            raise httpx2.ReadTimeout("the whole answer did not come in time")
        yield chunk


class AsyncClient:
    """The same for asyncio, with several batches on their way at a time."""

    def __init__(
        self,
        base_url: str,
        *,
        concurrency: int = 4,
        transport: httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        **settings: Unpack[Settings],
    ) -> None:
        """Check what it is told; nothing is sent yet.

        Args:
            base_url: where the server is, as http://HOST:PORT.
            concurrency: batches on their way at a time, of all calls together; those times batch_size should stay
                below the server's max_waiting.
            transport: of httpx2, in place of its own.
            sleep: waits before a request is sent again.
            settings: as those of Client.

        Raises:
            ConfigError: one of them breaks a rule.
        """
        self._policy = Policy(base_url, **settings)
        check_whole("concurrency", concurrency, at_least=1)
        self._sleep = sleep
        self._free = asyncio.Semaphore(concurrency)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=concurrency)
        self._http = httpx2.AsyncClient(headers=self._policy.headers, transport=transport, limits=limits)

    async def predict(self, texts: Iterable[str], top_k: int = 1, *, explain: bool = False) -> list[Prediction]:
        """Classify texts; where a batch fails the others are given up.

        Args:
            texts: any number of them.
            top_k: labels in `scores`.
            explain: whether each prediction has an `explanation`.

        Returns:
            A prediction for each text, in their order.

        Raises:
            ConfigError: an argument breaks a rule; nothing was sent.
            ServerError: a batch got no predictions.
        """
        questions = self._policy.predict(texts, top_k, explain, _read_predictions)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._ask(question)) for question in questions]
        except ExceptionGroup as failed:
            first = failed.exceptions[0]
        else:
            return [prediction for task in tasks for prediction in task.result()]
        raise first

    async def info(self) -> ServerInfo:
        """Ask what is served.

        Raises:
            ServerError: no answer came.
        """
        return await self._ask(self._policy.info(_read_info))

    async def ready(self) -> bool:
        """Ask once whether the server answers: False too where it cannot be reached.

        Raises:
            ServerRefused: it lets nobody ask.
        """
        try:
            return await self._take(self._policy.begin(self._policy.ready(), retries=0))
        except ServerUnreachable:
            return False

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask(self, question: Question[T]) -> T:
        async with self._free:
            return await self._take(self._policy.begin(question))

    async def _take(self, turn: Turn[T]) -> T:
        while (wait_s := turn.take(await self._send(turn))) is not None:
            await self._sleep(wait_s)
        return turn.answer

    async def _send(self, turn: Turn[T]) -> Answer | Failure:
        asked, headers, left_s = turn.question, turn.headers(), turn.left_s
        try:
            async with asyncio.timeout(left_s):
                response = await self._http.request(
                    asked.method, asked.url, content=asked.body, headers=headers, timeout=left_s
                )
        except (httpx2.RequestError, TimeoutError) as error:
            return _failure(error)
        return Answer(response.status_code, response.headers, response.content)
