"""Figures of benchmarks.serving of a process: its memory, and how long it takes to start."""

import random
from collections.abc import Sequence
from statistics import median
from time import perf_counter

from benchmarks.http_bytes import body_of
from benchmarks.load_wrk import wrk
from benchmarks.processes import resident_mb, running
from benchmarks.servers import free_port, serve_command, wait_ready
from benchmarks.serving_figures import ROUNDS, Figure
from benchmarks.serving_lab import CONNECTIONS, LOAD_CORE, SERVER_CORE, Lab, ours

WARM_UP = 5_000
LONGEST = 5_000
"""Characters of a text of varied length."""


def memory(lab: Lab) -> list[Figure]:
    """Of a process that has just begun, and how it grows."""
    bodies = [body_of(text) for text in varied(lab.texts, 3000)]
    with ours(lab.checkpoint) as (port, process):
        begun = resident_mb(process)
        ask_for(WARM_UP, port, bodies, 1)
        before = resident_mb(process)
        asked = ask_for(lab.requests, port, bodies, lab.seconds)
        after = resident_mb(process)
    told = f"{before:.0f} to {after:.0f} MB over {asked:,} requests of 0 to {LONGEST:,} characters"
    return [
        Figure(name="resident MB when loaded", bar=350, at_least=False, value=begun, told="one process, banking77"),
        Figure(name="its growth in %", bar=2, at_least=False, value=100 * (after / before - 1), told=told),
    ]


def ask_for(count: int, port: int, bodies: Sequence[bytes], seconds: float) -> int:
    """At least so many requests; gives how many."""
    asked = 0
    while asked < count:
        found = wrk(port, bodies, connections=CONNECTIONS, seconds=seconds, core=LOAD_CORE)
        if not found["requests"] or found["refused"] or found["broken"]:
            raise RuntimeError(f"the server did not answer every request: {found}")
        asked += int(found["requests"])
    return asked


def varied(texts: Sequence[str], count: int) -> list[str]:
    """Mostly short texts; a tenth of any length up to LONGEST, and some of every script."""
    chance, found = random.Random(0), []
    letters = [chr(code) for first in (0x61, 0x391, 0x410, 0x5D0, 0x4E00, 0x1F600) for code in range(first, first + 20)]
    for _ in range(count):
        text, kind = chance.choice(texts), chance.random()
        if kind < 0.05:
            text = " ".join(chance.choices(texts, k=1 + LONGEST // 40))
        elif kind < 0.15:
            text = "".join(chance.choices([*letters, " "], k=chance.choice((20, 40, LONGEST))))
        found.append(text[: chance.randint(0, LONGEST)] if kind < 0.1 else text)
    return found


def start(lab: Lab) -> list[Figure]:
    """From a command to an answer."""
    taken = []
    for _ in range(ROUNDS):
        port, begun = free_port(), perf_counter()
        with running(serve_command(lab.checkpoint, port), core=SERVER_CORE) as process:
            wait_ready(process, port)
            taken.append(perf_counter() - begun)
    told = f"{min(taken):.2f} to {max(taken):.2f}"
    name = "seconds from the start to ready"
    return [Figure(name=name, bar=2.5, at_least=False, value=median(taken), told=told)]
