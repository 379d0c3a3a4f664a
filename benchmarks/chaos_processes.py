"""Scenarios of benchmarks.chaos in which processes end: told to, or killed."""

import asyncio
import os
import signal
import subprocess
import time
from contextlib import suppress

from benchmarks.chaos_lab import PAUSE_S, Lab, still_well
from benchmarks.chaos_load import Load, under_load
from benchmarks.chaos_outcomes import PATIENCE_S, Outcome, Scenario
from benchmarks.processes import children, resident_mb


async def sigterm(lab: Lab, found: Scenario) -> None:
    """Each request that the server had gets its answer, and it exits with 0."""
    for _ in range(5):
        with lab.server() as (process, port):
            async with under_load(Load(lab, port, most=100), found) as load:
                await asyncio.sleep(lab.seconds / 5)
                told, waiting = time.monotonic(), len(load.flying)
                process.terminate()
                await asyncio.sleep(10 * PAUSE_S)  # some ask a server that is stopping
                load.stopped.set()
                await asyncio.to_thread(process.wait)
            had = [sent for sent, _, outcome in load.ended if outcome is not Outcome.REFUSED and sent < told - 0.05]
            found.check(not had, f"{len(had)} of {waiting} requests that it had when it was told to stop got no answer")
            found.check(process.returncode == 0, f"exit code {process.returncode}")
            found.notes.append(f"{waiting} waited")


async def killed_worker(lab: Lab, found: Scenario) -> None:
    """One of two workers killed, again and again."""
    with lab.server("--workers", 2) as (process, port):
        async with under_load(Load(lab, port), found):
            for _ in range(5):
                await asyncio.sleep(lab.seconds / 2)
                await _has_workers(process, found)
                kill_worker(process.pid, found)
        await _has_workers(process, found)
        still_well(process, port, found)


def workers_of(pid: int) -> list[int]:
    """The children that have a model, by their size."""
    found = []
    for child in children(pid):
        with suppress(OSError, IndexError):
            if resident_mb(child) > 100:
                found.append(child)
    return found


def kill_worker(pid: int, found: Scenario) -> None:
    """The first of two; where the other is still being started, none."""
    workers = workers_of(pid)
    if len(workers) > 1:
        os.kill(workers[0], signal.SIGKILL)
        found.notes.append("a worker killed")


async def _has_workers(process: subprocess.Popen[bytes], found: Scenario) -> None:
    until = time.monotonic() + PATIENCE_S
    while len(workers_of(process.pid)) < 2 and time.monotonic() < until:
        await asyncio.sleep(0.1)
    found.check(
        time.monotonic() < until, f"{len(workers_of(process.pid))} workers {PATIENCE_S:.0f} s after the last was killed"
    )
