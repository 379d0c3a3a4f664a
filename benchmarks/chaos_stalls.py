"""Scenarios of benchmarks.chaos in which clients send too slowly, or without end."""

import asyncio
from collections.abc import Awaitable, Callable

from benchmarks.chaos_clients import faulty
from benchmarks.chaos_lab import Lab, still_well
from benchmarks.chaos_load import Load, under_load
from benchmarks.chaos_outcomes import PATIENCE_S, Outcome, Scenario
from benchmarks.http_bytes import HEAD_END, body_of, request_of
from benchmarks.servers import HOST

SHORT_S = 3
"""What a server that is tried with stalling clients gives them."""


async def half_a_body(lab: Lab, found: Scenario) -> None:
    """Clients that send half of what they announce, and wait."""
    request = request_of(body_of(lab.texts[0]))

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(request[:-10])

    await _stalling(lab, found, send)


async def one_byte_a_second(lab: Lab, found: Scenario) -> None:
    """Clients that send a byte a second."""
    request = request_of(body_of(lab.texts[0] * 10))

    async def send(writer: asyncio.StreamWriter) -> None:
        for place in range(len(request)):
            writer.write(request[place : place + 1])
            await asyncio.sleep(1)

    await _stalling(lab, found, send)


async def endless_body(lab: Lab, found: Scenario) -> None:
    """A chunked body that has no end."""
    lines = ["POST /predict HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join(lines).encode() + HEAD_END)
        while True:
            writer.write(chunk)
            await writer.drain()

    await _stalling(lab, found, send)


async def _stalling(lab: Lab, found: Scenario, send: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
    flags = ("--header-timeout-s", SHORT_S, "--body-timeout-s", SHORT_S)
    with lab.server(*flags) as (process, port):
        async with under_load(Load(lab, port, clients=8), found):
            found.faulty.update(await asyncio.gather(*(faulty(port, send) for _ in range(50))))
            await asyncio.sleep(lab.seconds)
        still_well(process, port, found)
    lost = found.faulty[Outcome.LOST]
    found.check(not lost, f"{lost} clients that stall are held for {PATIENCE_S:.0f} s and more")
