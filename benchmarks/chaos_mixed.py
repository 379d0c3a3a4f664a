"""The scenario of benchmarks.chaos in which much happens at once."""

import asyncio
import itertools
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from benchmarks.chaos_lab import Lab, still_well
from benchmarks.chaos_load import Load, under_load
from benchmarks.chaos_outcomes import Scenario
from benchmarks.chaos_processes import kill_worker
from benchmarks.chaos_versions import put
from benchmarks.http_bytes import body_of, request_of
from benchmarks.servers import HOST


async def mixed(lab: Lab, found: Scenario) -> None:
    """Requests of every kind with clients that hang up, reloads and killed workers."""
    folder = Path(tempfile.mkdtemp(dir=lab.folder)) / "served"
    put(lab.versions[0], folder)
    with lab.server("--workers", 2, checkpoint=folder) as (process, port):
        reload_one = partial(_reload_one, lab, process, folder, itertools.count(), found)
        events = (reload_one, partial(kill_worker, process.pid, found))
        load = Load(lab, port, most=20, limit=lab.requests)
        async with under_load(load, found):
            await _until_stopped(load, port, events, lab)
        still_well(process, port, found)


def _reload_one(
    lab: Lab, process: subprocess.Popen[bytes], folder: Path, numbers: Iterator[int], found: Scenario
) -> None:
    put(lab.versions[(next(numbers) + 1) % 2], folder)
    found.notes.append("a reload")
    process.send_signal(signal.SIGHUP)


async def _until_stopped(load: Load, port: int, events: Sequence[Callable[[], None]], lab: Lab) -> None:
    """Something happens each second or so, a client hangs up more often."""
    number = 0
    while not load.stopped.is_set():
        for _ in range(20):
            with suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, port)
                writer.write(request_of(body_of(lab.texts[number % len(lab.texts)]))[:-5])
                writer.transport.abort()
            await asyncio.sleep(0.1)
        if not load.stopped.is_set():
            events[number % len(events)]()
        number += 1
