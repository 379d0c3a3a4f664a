"""One request of a turn, sent by httpx2; no answer is a Failure, not an exception."""

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, wait
from contextvars import copy_context
from threading import Thread
from typing import Any

import httpx2

from nlp_app.client.exchange import Answer, Failure
from nlp_app.client.turn import Turn

LATE = Failure("it did not answer in time")


def send(http: httpx2.Client, turn: Turn[Any]) -> Answer | Failure:
    """Send it, and wait for what comes: in a thread, which is left to itself when the time is over.

    httpx2 limits the time of each read alone, and of an address nothing: so heads may drip, and names be looked up, for
    as long as they like.
    """
    outcome: Future[Answer | Failure] = Future()
    Thread(target=copy_context().run, args=(_fulfil, outcome, http, turn), daemon=True).start()
    while not wait([outcome], turn.left_s).done:
        if turn.over:
            return LATE
    return outcome.result()


def _fulfil(outcome: "Future[Answer | Failure]", http: httpx2.Client, turn: Turn[Any]) -> None:
    try:
        outcome.set_result(_send(http, turn))
    except BaseException as error:  # who waits for it raises it
        outcome.set_exception(error)


def _send(http: httpx2.Client, turn: Turn[Any]) -> Answer | Failure:
    asked, headers, left_s = turn.question, turn.headers(), turn.left_s
    try:
        with http.stream(asked.method, asked.url, content=asked.body, headers=headers, timeout=left_s) as response:
            body = b"".join(_in_time(response.iter_bytes(), turn))
    except httpx2.RequestError as error:
        return _failure(error)
    return Answer(response.status_code, response.headers, body)


async def send_async(http: httpx2.AsyncClient, turn: Turn[Any]) -> Answer | Failure:
    """The same for asyncio."""
    asked, headers, left_s = turn.question, turn.headers(), turn.left_s
    try:
        async with asyncio.timeout(left_s):
            response = await http.request(asked.method, asked.url, content=asked.body, headers=headers, timeout=left_s)
    except (httpx2.RequestError, TimeoutError) as error:
        return _failure(error)
    return Answer(response.status_code, response.headers, response.content)


def _in_time(chunks: Iterable[bytes], turn: Turn[Any]) -> Iterator[bytes]:
    """The chunks, until the time is over: httpx2 limits the time of each, so that an answer could drip for ever."""
    for chunk in chunks:
        if turn.over:
            raise httpx2.ReadTimeout("the whole answer did not come in time")
        yield chunk


def _failure(error: Exception) -> Failure:
    """Why no answer came; only what is said before a request is sent can hold nothing of it."""
    if isinstance(error, httpx2.TimeoutException | TimeoutError):
        return LATE
    if isinstance(error, httpx2.ConnectError):
        return Failure(f"no connection: {' '.join(str(error).split())}")
    return Failure(f"the connection broke: {type(error).__name__}")
