"""What a client asks, and how long and how often it asks for it."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TypedDict, TypeVar

from nlp_app.client.arguments import check_flag, check_seconds, check_whole, read_base_url, read_headers, read_model
from nlp_app.client.batches import encode, spans
from nlp_app.client.exchange import Question
from nlp_app.client.predictions import Prediction, ServerInfo
from nlp_app.client.reading import read_info, read_predictions
from nlp_app.client.turn import Turn

T = TypeVar("T")
MAX_EXPLAINED = 32
"""Texts of one request with explain, as the server has it by default."""


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
        check_seconds("timeout_s", timeout_s)
        self.headers = read_headers(headers or {}, api_key)
        self._server = read_base_url(base_url)
        self._model = self._server if model is None else f"{self._server}/models/{read_model(model)}"
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

    def info(self) -> Question[ServerInfo]:
        """Ask what is served."""
        return Question("GET", f"{self._model}/info", read_info)

    def ready(self) -> Question[bool]:
        """Ask whether the server answers."""
        return Question("GET", f"{self._server}/health/ready", bool)

    def predict(self, texts: Iterable[str], top_k: int, explain: bool) -> Iterator[Question[list[Prediction]]]:
        """Ask for the labels of texts, a batch at a time.

        Args:
            texts: any number of them.
            top_k: labels in `scores`.
            explain: whether each prediction has an `explanation`.

        Raises:
            ConfigError: an argument breaks a rule; before anything is sent.
        """
        check_whole("top_k", top_k, at_least=1)
        check_flag("explain", explain)
        encoded = encode(texts)
        most = min(self._batch_size, MAX_EXPLAINED) if explain else self._batch_size
        rest = b'],"top_k":%d,"explain":%s}' % (top_k, b"true" if explain else b"false")
        return (
            self._batch(start, stop, b'{"inputs":[' + b",".join(encoded[start:stop]) + rest)
            for start, stop in spans(encoded, most)
        )

    def _batch(self, start: int, stop: int, body: bytes) -> Question[list[Prediction]]:
        return Question(
            "POST",
            f"{self._model}/predict",
            partial(read_predictions, count=stop - start),
            body,
            f" with texts[{start}:{stop}]",
        )
