"""The lines of a body that may have no end, read as they come."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence

from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request

from serving.batching import Item
from serving.problems import Refused, too_large
from serving.requests import read_items
from serving.settings import Settings

LINES = 256
"""Answered together."""
BYTES_PER_S = 1024
"""A client that sends as many is not too slow."""
WHOLE = re.compile(rb"[^\n]*\n")
Line = Item | bytes
"""A text, or what is answered in its place."""


async def groups(request: Request, limits: Settings) -> AsyncIterator[list[Line]]:
    """Lines that came together, as many as are answered together: one that comes alone is answered at once.

    Raises:
        ClientDisconnect: the client has gone.
        TimeoutError: it does not go on.
    """
    rest = bytearray()
    number = 0
    async for chunk in _chunks(request, limits):
        rest += chunk
        if b"\n" not in chunk:
            del rest[limits.max_body_bytes + 1 :]  # of what is refused nothing more is kept
            continue
        for lines in batched(data := bytes(rest)):
            yield _read_lines(lines, number, limits)
            number += len(lines)
        rest = bytearray(data[data.rfind(b"\n") + 1 :])
    if rest:
        yield _read_lines([rest], number, limits)


def batched(data: bytes) -> Iterator[list[bytes]]:
    """The whole lines, LINES at a time: a chunk may hold 262,144, and others wait while they are looked at."""
    found: list[bytes] = []
    for line in WHOLE.finditer(data):
        found.append(line[0][:-1])
        if len(found) == LINES:
            yield found
            found = []
    if found:
        yield found


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
