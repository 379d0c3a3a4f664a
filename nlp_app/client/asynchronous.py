"""The client for asyncio."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Self, TypeVar, Unpack

import httpx2

from nlp_app.client.arguments import check_whole
from nlp_app.client.errors import ServerUnreachable
from nlp_app.client.exchange import Question
from nlp_app.client.policy import Policy, Settings
from nlp_app.client.predictions import Prediction, ServerInfo
from nlp_app.client.sending import send_async
from nlp_app.client.turn import Turn

T = TypeVar("T")


class AsyncClient:
    """The same as Client for asyncio, with several batches on their way at a time."""

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
        questions = self._policy.predict(texts, top_k, explain)
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
        return await self._ask(self._policy.info())

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
        while (wait_s := turn.take(await send_async(self._http, turn))) is not None:
            await self._sleep(wait_s)
        return turn.answer
