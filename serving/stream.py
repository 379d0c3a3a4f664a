"""POST /predict/stream: NDJSON in, NDJSON out, a line for a line in order, in constant memory.

A line is what /predict takes, with one text. One that breaks a rule is answered by {"detail": …}, and the rest goes on.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.groups import Asking, Group
from serving.kinds import JSON, check_kind
from serving.lines import groups
from serving.models import Models, Slot
from serving.problems import Refused
from serving.requests import check_encoding, timeout_s
from serving.routes import REFUSALS, REFUSALS_BY_NAME, models, named, settings, whole_path
from serving.schemas import Problem
from serving.settings import Settings

router = APIRouter(dependencies=[Depends(whole_path)])

KINDS = ("application/x-ndjson", "text/plain")
BODY = {"requestBody": {"content": {kind: {"schema": {"type": "string"}} for kind in KINDS}}}
ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {KINDS[0]: {}}},
    505: {"model": Problem, "description": "The request is in HTTP/1.0"},
}


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
            with contextlib.suppress(ClientDisconnect):  # nobody is there to be told
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
    headers = dict(request.scope["headers"])
    if request.scope["http_version"] == "1.0":
        raise Refused(505, "a stream is answered in chunks, which HTTP/1.0 has not: ask in HTTP/1.1")
    check_kind(headers, *KINDS, JSON)  # of which a line is one
    check_encoding(headers)
    asking = Asking(slot=slot, timeout_s=timeout_s(headers, limits))
    slot.current.check_ready()
    return Streamed(_answers(request, asking, limits))


async def _answers(request: Request, asking: Asking, limits: Settings) -> AsyncGenerator[bytes, None]:
    """Of one group of lines after the other, while the next ones are read."""
    asked: asyncio.Queue[Group | None] = asyncio.Queue()
    reading = asyncio.create_task(_read_all(request, asking, limits, asked))
    try:
        while (group := await asked.get()) is not None:
            yield b"".join(line + b"\n" for line in await asking.answers(group))
        if reading.done():
            reading.result()
    finally:
        reading.cancel()
        asking.leave()


async def _read_all(request: Request, asking: Asking, limits: Settings, asked: "asyncio.Queue[Group | None]") -> None:
    """Ask for what comes, group by group, until the body ends; of a client that has gone, for nothing more."""
    try:
        async for lines in groups(request, limits):
            asked.put_nowait(await asking.submit(lines))
        asked.put_nowait(None)
        while (await request.receive())["type"] != "http.disconnect":
            pass
        asking.leave()
    except ClientDisconnect:
        asking.leave()
    except TimeoutError:
        asked.put_nowait(Group([to_json({"detail": "the rest of the body was not sent in time"})]))
    finally:
        asked.put_nowait(None)
