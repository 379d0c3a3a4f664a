"""Scenarios of benchmarks.chaos in which the checkpoint is replaced."""

import asyncio
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.chaos_lab import PAUSE_S, Lab, still_well
from benchmarks.chaos_load import Load, under_load
from benchmarks.chaos_outcomes import PATIENCE_S, Scenario
from benchmarks.chaos_versions import put
from benchmarks.servers import ask
from nlp_app.folder import CHECKPOINT_FILES


async def reload(lab: Lab, found: Scenario) -> None:
    """Another version again and again."""
    with _reloading(lab) as (process, port, folder):
        async with under_load(Load(lab, port, most=40), found):
            for number in range(50):
                await _replace(process, port, folder, lab.versions[(number + 1) % 2], found)
        still_well(process, port, found)


async def corrupted(lab: Lab, found: Scenario) -> None:
    """A new version that is not whole: the old one goes on, and a whole one is taken again."""
    with _reloading(lab) as (process, port, folder):
        before = await served_version(port)
        async with under_load(Load(lab, port), found):
            for number in range(5):
                put(lab.versions[1], folder, spoil=CHECKPOINT_FILES[number])
                process.send_signal(signal.SIGHUP)
                await asyncio.sleep(1)
                found.check(
                    await served_version(port) == before,
                    f"another version answers after a bad {CHECKPOINT_FILES[number]}",
                )
            await _replace(process, port, folder, lab.versions[1], found)
        still_well(process, port, found)


@contextmanager
def _reloading(lab: Lab) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    folder = Path(tempfile.mkdtemp(dir=lab.folder)) / "served"
    put(lab.versions[0], folder)
    with lab.server(checkpoint=folder) as (process, port):
        yield process, port, folder


async def _replace(process: subprocess.Popen[bytes], port: int, folder: Path, version: Path, found: Scenario) -> None:
    """Another version in the folder, and wait until it answers."""
    put(version, folder)
    process.send_signal(signal.SIGHUP)
    wanted, until = version.name, time.monotonic() + PATIENCE_S
    while await served_version(port) != wanted and time.monotonic() < until:
        await asyncio.sleep(PAUSE_S)
    found.check(time.monotonic() < until, f"version {wanted} did not answer within {PATIENCE_S:.0f} s")


async def served_version(port: int) -> str:
    """What /info says; empty where it does not answer."""
    try:
        return str(json.loads((await asyncio.to_thread(ask, port, "GET", "/info"))[1])["model"]["version"])
    except (OSError, ValueError, KeyError):
        return ""
