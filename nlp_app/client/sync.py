"""The client that waits."""

import time
from collections.abc import Callable, Iterable
from typing import Self, TypeVar, Unpack

import httpx2

from nlp_app.client.errors import ServerUnreachable
from nlp_app.client.exchange import Question
from nlp_app.client.policy import Policy, Settings
from nlp_app.client.predictions import Prediction, ServerInfo
from nlp_app.client.sending import send
from nlp_app.client.turn import Turn

T = TypeVar("T")


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
        questions = self._policy.predict(texts, top_k, explain)
        return [prediction for question in questions for prediction in self._ask(question)]

    def info(self) -> ServerInfo:
        """Ask what is served.

        Raises:
            ServerError: no answer came.
        """
        return self._ask(self._policy.info())

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
        while (wait_s := turn.take(send(self._http, turn))) is not None:
            self._sleep(wait_s)
        return turn.answer
