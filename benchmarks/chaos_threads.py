"""Scenarios of benchmarks.chaos in which the thread that asks the model hangs, or fails at every call."""

import asyncio
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from benchmarks.chaos_lab import PAUSE_S, Lab
from benchmarks.chaos_load import Load, under_load
from benchmarks.chaos_outcomes import PATIENCE_S, Scenario
from benchmarks.faulty_server import MODULE, met_of
from benchmarks.servers import ask
from serving.inference import LOST_S

MOST = 40
"""Texts in a request: half of the requests have several, and of those most are the thread's."""
TIMEOUT_S = 3
"""Of a request: less than a client's patience."""
READY_S = 2.0
"""The server may say for so long that it is ready, though the thread does not answer."""
LIVE_S = LOST_S + 2.0
"""And for so long that it is live."""
END_S = 5.0
"""A server that is told to stop has ended by then: no request has waited for longer than TIMEOUT_S."""
CLEAR = {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
"""Once it is known that the model is broken; what fails before that is told so, with 500."""


async def hung_thread(lab: Lab, found: Scenario) -> None:
    """A call of the model that never returns: the process cannot end in order, since Python would wait for it."""
    await _broken(lab, found, "hung", code=1)


async def dead_thread(lab: Lab, found: Scenario) -> None:
    """Every call of the model fails."""
    await _broken(lab, found, "dead", code=0)


async def _broken(lab: Lab, found: Scenario, kind: str, code: int) -> None:
    fault = Path(tempfile.mkdtemp(dir=lab.folder)) / kind
    with lab.server("--request-timeout-s", TIMEOUT_S, program=(MODULE, kind, fault)) as (process, port):
        load = Load(lab, port, most=MOST)
        async with under_load(load, found):
            await asyncio.sleep(lab.seconds)
            fault.touch()
            asked = await _asked(fault)
            await _turns(port, "ready", asked, READY_S, found)
            await asyncio.sleep(10 * PAUSE_S)  # for what was on its way
            before = Counter(load.statuses)
            await _turns(port, "live", asked, LIVE_S, found)
            await _ends(process, load, code, found)
        odd = {status: count for status, count in (load.statuses - before).items() if status not in CLEAR}
        found.check(not odd, f"answered neither right nor by 503 or 504 when it was known: {odd}")
        found.notes.append(f"{before[HTTPStatus.INTERNAL_SERVER_ERROR]} told that it failed before that was known")


async def _asked(fault: Path) -> float:
    """When the thread was next asked, after the file of the fault was made.

    Raises:
        RuntimeError: it was not.
    """
    until = time.time() + PATIENCE_S
    while time.time() < until:
        with suppress(FileNotFoundError):
            return met_of(fault).stat().st_mtime
        await asyncio.sleep(PAUSE_S)
    raise RuntimeError(f"the thread was not asked within {PATIENCE_S:.0f} s")


async def _turns(port: int, name: str, asked: float, within_s: float, found: Scenario) -> None:
    """Wait until a health endpoint answers 503; a fault where that is not in time."""
    status, taken = int(HTTPStatus.OK), 0.0
    while status != HTTPStatus.SERVICE_UNAVAILABLE and taken < max(within_s, PATIENCE_S):
        await asyncio.sleep(PAUSE_S)
        with suppress(OSError, HTTPException):
            status = (await asyncio.to_thread(ask, port, "GET", f"/health/{name}"))[0]
        taken = time.time() - asked
    told = f"{status} from /health/{name} {taken:.1f} s after the thread was asked"
    in_time = status == HTTPStatus.SERVICE_UNAVAILABLE and taken <= within_s
    (found.notes if in_time else found.faults).append(told)


async def _ends(process: subprocess.Popen[bytes], load: Load, code: int, found: Scenario) -> None:
    """Told to stop under load, it ends in time."""
    told = time.monotonic()
    process.terminate()
    await asyncio.sleep(10 * PAUSE_S)  # some ask a server that is stopping
    load.stopped.set()
    with suppress(subprocess.TimeoutExpired):
        await asyncio.to_thread(process.wait, END_S)
    found.check(process.returncode == code, f"exit code {process.returncode} where {code} was due")
    found.notes.append(f"ended after {time.monotonic() - told:.1f} s")
