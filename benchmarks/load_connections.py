"""The connections of an open loop, and its run."""

import asyncio
import gc
from functools import partial
from typing import cast

from benchmarks.http_bytes import whole_answer
from benchmarks.load_open import OpenLoop
from benchmarks.processes import allow_files
from benchmarks.servers import HOST, POLL_S, START_S

DRAIN_S = 3.0
"""Answers are waited for so long after the last request."""


class Connection(asyncio.Protocol):
    """A connection of an open loop."""

    def __init__(self, *, load: OpenLoop, gone: "asyncio.Future[None]") -> None:
        self.due = 0.0
        self._load = load
        self._gone = gone
        self._asked = False
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It can be used."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its classes
        self._load.opened(self)

    def send(self, request: bytes, due: float) -> None:
        """As of Line."""
        self.due, self._asked = due, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """A part of an answer, mostly all of it."""
        self._seen = self._seen + data if self._seen else data
        found = whole_answer(self._seen)
        if found is not None:
            self._seen, self._asked = b"", False
            self._load.answered(self, found[0])

    def connection_lost(self, _: Exception | None) -> None:
        """The server has closed it, or the load is over."""
        self._load.lost(self, self._asked)
        if not self._gone.done():
            self._gone.set_result(None)


def open_loop(load: OpenLoop, port: int, connections: int) -> None:
    """Run an open loop to its end, in this thread."""
    import uvloop

    allow_files(connections)
    gc.collect()
    gc.disable()
    try:
        uvloop.run(_offer(load, port, connections))
    finally:
        gc.enable()


async def _offer(load: OpenLoop, port: int, connections: int) -> None:
    """Spin, since timers of a millisecond would be late by as much as an answer takes."""
    loop = asyncio.get_running_loop()
    kept = [loop.create_task(_keep_open(load, port)) for _ in range(connections)]
    await _until_free(load, connections)
    load.warm_up()
    await _until_free(load, connections)
    load.begin()
    while not load.sent_all:
        load.tick()
        await asyncio.sleep(0)
    load.ended()
    waited = loop.time() + DRAIN_S
    while not load.done and loop.time() < waited:
        await asyncio.sleep(POLL_S)
    for task in kept:
        task.cancel()
    await asyncio.gather(*kept, return_exceptions=True)


async def _until_free(load: OpenLoop, connections: int) -> None:
    """Wait for every connection."""
    loop = asyncio.get_running_loop()
    waited = loop.time() + START_S
    while len(load.free) < connections:
        if loop.time() > waited:
            raise RuntimeError(f"of {connections} connections {len(load.free)} were answered in {START_S:.0f} s")
        await asyncio.sleep(POLL_S)


async def _keep_open(load: OpenLoop, port: int) -> None:
    """A connection, and another when the server has closed it."""
    loop = asyncio.get_running_loop()
    while True:
        gone = loop.create_future()
        try:
            transport, _ = await loop.create_connection(partial(Connection, load=load, gone=gone), HOST, port)
        except OSError:
            await asyncio.sleep(POLL_S)
            continue
        try:
            await gone
        finally:
            transport.close()
