"""The clients of benchmarks.chaos: an exchange of theirs, and one that is not in order."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from benchmarks.chaos_outcomes import PATIENCE_S, Outcome, judge
from benchmarks.http_bytes import HEAD_END, LENGTH
from benchmarks.servers import HOST


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes] | Outcome:
    """Send a request and read its answer: status and body, or why there is none."""
    begun = False
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(request)
            head = await reader.readuntil(HEAD_END)
            begun = True
            length = LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else await reader.read()
            return int(head[9:12]), body
    except TimeoutError:
        return Outcome.LOST
    except asyncio.IncompleteReadError as error:
        return Outcome.TRUNCATED if begun or error.partial else Outcome.BROKEN
    except OSError:
        return Outcome.BROKEN


async def faulty(port: int, send: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> Outcome:
    """A client that sends what is not in order; what it is answered."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return Outcome.BROKEN
    sending = asyncio.ensure_future(send(writer))
    try:
        found = await exchange(reader, writer, b"")
        return found if isinstance(found, Outcome) else judge(*found, (), {})
    finally:
        sending.cancel()
        with suppress(OSError, asyncio.CancelledError):
            await sending
        writer.close()
