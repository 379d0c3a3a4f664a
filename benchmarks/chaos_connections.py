"""Scenarios of benchmarks.chaos in which clients go in the midst of a request, or connect and say nothing."""

import asyncio
import random
import socket
import time
from contextlib import suppress

from benchmarks.chaos_lab import PAUSE_S, Lab, still_well
from benchmarks.chaos_load import Load, under_load
from benchmarks.chaos_outcomes import PATIENCE_S, Outcome, Scenario
from benchmarks.http_bytes import body_of, request_of
from benchmarks.processes import allow_files, resident_mb
from benchmarks.servers import HOST

SILENT = 10_000
FEW_FILES = 100


async def hang_up(lab: Lab, found: Scenario) -> None:
    """Clients that go at any moment of a request."""
    chance, gone = random.Random(0), 0

    async def client(port: int) -> None:
        nonlocal gone
        request = request_of(body_of(chance.choices(lab.texts, k=chance.choice((1, 100)))))
        with suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(request[: chance.randint(0, len(request))] if chance.random() < 0.5 else request)
            await asyncio.sleep(chance.random() * 0.01)
            if chance.random() < 0.5:
                writer.transport.abort()
            else:
                writer.close()
            gone += 1

    with lab.server() as (process, port):
        async with under_load(Load(lab, port), found):
            until = time.monotonic() + lab.seconds
            while time.monotonic() < until:
                await asyncio.gather(*(client(port) for _ in range(8)))
        found.notes.append(f"{gone:,} hung up")
        still_well(process, port, found)


async def silent_connections(lab: Lab, found: Scenario) -> None:
    """Very many connections that say nothing."""
    allow_files(SILENT)
    with lab.server() as (process, port):
        async with under_load(Load(lab, port), found):
            kept = await _silent(port, SILENT, found)
            await asyncio.sleep(lab.seconds)
            found.notes.append(f"{resident_mb(process.pid):.0f} MB beside {len(kept):,} silent connections")
            for each in kept:
                each.close()
        still_well(process, port, found)


async def few_files(lab: Lab, found: Scenario) -> None:
    """A server that may open few files, and more connections than that."""
    with lab.server(files=FEW_FILES) as (process, port):
        async with under_load(Load(lab, port, clients=8), found):
            kept = await _silent(port, 4 * FEW_FILES, found)
            await asyncio.sleep(lab.seconds)
            for each in kept:
                each.close()
        still_well(process, port, found)


async def _silent(port: int, count: int, found: Scenario) -> list[socket.socket]:
    kept = []
    for number in range(count):
        try:
            kept.append(await _connected(port))
        except OSError:
            found.faulty[Outcome.BROKEN] += 1
        if number % 100 == 0:
            await asyncio.sleep(PAUSE_S)
    return kept


async def _connected(port: int) -> socket.socket:
    one = socket.socket()
    one.setblocking(False)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_connect(one, (HOST, port))
    except OSError:
        one.close()
        raise
    return one
