"""POST /predict/stream: NDJSON in, NDJSON out, a line for a line in order, in constant memory.

A line is what /predict takes, with one text. One that breaks a rule is answered by {"detail": …}, and the rest goes on.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.batching import Item
from serving.models import Models, Slot
from serving.problems import Refused, failed, too_large
from serving.requests import check_encoding, read_items
from serving.routes import REFUSALS, REFUSALS_BY_NAME, models, named, settings, whole_path
from serving.settings import Settings

LINES = 256
"""Answered together."""
PAUSE_S = 0.02
"""Before a full queue is asked again."""
BYTES_PER_S = 1024
"""A client that sends as many is not too slow."""
router = APIRouter(dependencies=[Depends(whole_path)])

KINDS = ("application/x-ndjson", "text/plain")
BODY = {"requestBody": {"content": {kind: {"schema": {"type": "string"}} for kind in KINDS}}}
ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {KINDS[0]: {}}}}
Line = Item | bytes
"""A text, or what is answered in its place."""
Group = tuple[Sequence[Line], "asyncio.Future[list[bytes]] | None"]
"""Lines, and the answers to their texts."""


class Streamed(Response):
    """Sends while it receives; the framework's own would read the body away, to see whether its client has left."""

    media_type = "application/x-ndjson"

    def __init__(self, answers: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send what is answered as it comes."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with contextlib.aclosing(self._answers) as answers:
            async for part in answers:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@router.post("/predict/stream", responses=ANSWER | REFUSALS, openapi_extra=BODY)
async def stream(
    request: Request, models: Annotated[Models, Depends(models)], limits: Annotated[Settings, Depends(settings)]
) -> Response:
    """Classify a text a line: each line of the body as the body of /predict, with one text."""
    return _stream(request, models.default, limits)


@router.post("/models/{name}/predict/stream", responses=ANSWER | REFUSALS_BY_NAME, openapi_extra=BODY)
async def stream_of(
    request: Request, slot: Annotated[Slot, Depends(named)], limits: Annotated[Settings, Depends(settings)]
) -> Response:
    """The same by another model."""
    return _stream(request, slot, limits)


def _stream(request: Request, slot: Slot, limits: Settings) -> Response:
    check_encoding(dict(request.scope["headers"]))
    slot.current.check_ready()
    return Streamed(_answers(request, slot, limits))


async def _answers(request: Request, slot: Slot, limits: Settings) -> AsyncGenerator[bytes, None]:
    """Of one group of lines after the other, while the next ones are read: three are held at most."""
    asked: asyncio.Queue[Group | None] = asyncio.Queue(maxsize=1)
    reading = asyncio.create_task(_read_all(request, slot, limits, asked))
    try:
        while (group := await asked.get()) is not None:
            yield await _joined(group)
        await reading
    finally:
        reading.cancel()


async def _read_all(request: Request, slot: Slot, limits: Settings, asked: "asyncio.Queue[Group | None]") -> None:
    """Submit what comes, group by group, until the body ends or its client is gone."""
    try:
        async for lines in _groups(request, limits):
            await asked.put(await _submit(slot, lines, limits))
    except ClientDisconnect:
        pass
    except TimeoutError:
        await asked.put(([to_json({"detail": "the rest of the body was not sent in time"})], None))
    except Exception:
        await asked.put(None)
        raise
    await asked.put(None)  # not where it was cancelled: then nobody takes it


async def _submit(slot: Slot, lines: Sequence[Line], limits: Settings) -> Group:
    """To the model, as soon as the queue has room."""
    items = [line for line in lines if isinstance(line, Item)]
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.request_timeout_s
    while items:
        try:
            return lines, slot.current.submit(items, deadline).answers
        except Refused as refused:
            if refused.status != 429 or loop.time() >= deadline:
                return [to_json({"detail": refused.detail}) if isinstance(line, Item) else line for line in lines], None
        await asyncio.sleep(PAUSE_S)
    return lines, None


async def _joined(group: Group) -> bytes:
    lines, answers = group
    try:
        found = [] if answers is None else await answers
    except Exception as error:  # of these texts; the others are answered
        refused = error if isinstance(error, Refused) else failed(error)
        found = [to_json({"detail": refused.detail})] * len(lines)
    rest = iter(found)
    return b"".join((line if isinstance(line, bytes) else next(rest)) + b"\n" for line in lines)


async def _groups(request: Request, limits: Settings) -> AsyncIterator[list[Line]]:
    """Lines that came together, as many as are answered together: one that comes alone is answered at once."""
    rest = bytearray()
    number = 0
    async for chunk in _chunks(request, limits):
        rest += chunk
        if len(rest) > limits.max_body_bytes and b"\n" not in chunk:
            del rest[limits.max_body_bytes + 1 :]  # of what is refused nothing more is kept
        *whole, rest = rest.split(b"\n") if b"\n" in chunk else [rest]
        for start in range(0, len(whole), LINES):
            lines = whole[start : start + LINES]
            yield _read_lines(lines, number, limits)
            number += len(lines)
    yield _read_lines([rest], number, limits)


def _read_lines(lines: Sequence[bytes | bytearray], number: int, limits: Settings) -> list[Line]:
    return [_read(bytes(line), number + place + 1, limits) for place, line in enumerate(lines) if line.strip()]


def _read(line: bytes, number: int, limits: Settings) -> Line:
    try:
        if len(line) > limits.max_body_bytes:
            raise too_large(limits.max_body_bytes)
        items = read_items(line, limits)
        if len(items) != 1:
            raise Refused(422, "inputs: must be one text")
        return items[0]
    except Refused as refused:
        return to_json({"detail": f"line {number}: {refused.detail}"})


async def _chunks(request: Request, limits: Settings) -> AsyncIterator[bytes]:
    """Of the body; a client that sends nearly nothing is waited for as long as for a body."""
    loop = asyncio.get_running_loop()
    waited = received = 0.0
    while True:
        started = loop.time()
        async with asyncio.timeout(max(0.0, limits.body_timeout_s + received / BYTES_PER_S - waited)):
            message = await request.receive()
        waited += loop.time() - started
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        received += len(message.get("body", b""))
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return
