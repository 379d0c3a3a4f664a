"""Several processes behind one port: each takes connections from the same socket, and one that dies is started again.

A worker accepts nothing before its models are loaded, and tells twice a second how it is; the supervisor adds up what
they count, and kills one that has hung.
"""

import asyncio
import json
import logging
import logging.config
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any

from serving.admin import State, serve_admin
from serving.copies import Copies
from serving.keys import admin_keys
from serving.logs import log_config
from serving.measures import added
from serving.settings import Settings
from serving.signals import TO_END, TO_RELOAD, held_back
from serving.workers import REPORT_S, VARIABLE, Worker, to_variable

LEAST_S = 1.0
"""Between two starts of a worker."""
MOST_S = 30.0
"""As long as that grows, twofold, while a worker ends before it was ready."""
MOST_BYTES = 1 << 26
"""Of a report."""
BROKEN = 2
"""The exit code of a worker that says why it cannot start."""
logger = logging.getLogger(__name__)


class Supervisor:
    """Starts workers, and starts them again."""

    def __init__(
        self,
        *,
        command: Sequence[str],
        count: int,
        listening: socket.socket,
        copies: Copies,
        seconds_to_finish: float,
    ) -> None:
        self._command = list(command)
        self._count = count
        self._listening = listening
        self._copies = copies
        self._seconds_to_finish = seconds_to_finish
        self._workers: list[Worker] = []
        self._gone: Any = None
        """What workers counted that are no more."""
        self._stopping = asyncio.Event()
        self._failed = 0
        self._first = asyncio.Event()
        """Whether a worker was ready: the others start then, so that a checkpoint that is broken is told of once."""

    def stop(self) -> None:
        """End all workers once they have answered what they accepted."""
        self._stopping.set()
        self._first.set()
        self._signal(signal.SIGTERM)

    def reload(self) -> None:
        """Let every worker load what its folders hold now."""
        for number in TO_RELOAD:
            self._signal(number)

    def state(self) -> State:
        """Of all workers."""
        reports = [worker.report for worker in self._workers if worker.report]
        values = [report["measures"] for report in reports] + ([self._gone] if self._gone else [])
        ready = sum(worker.ready for worker in self._workers)
        gauges = {**(added(report["gauges"] for report in reports) if reports else {}), "workers_ready": ready}
        versions = [(*one,) for worker in self._workers if worker.ready for one in worker.report["answering"]]
        live = any(not worker.hangs for worker in self._workers)
        return State(added(values) if values else {}, gauges, ready > 0, live, versions)

    async def run(self) -> int:
        """Until it is stopped; gives the exit code."""
        keeping = (self._keep(number) for number in range(self._count))
        await asyncio.gather(*keeping, self._kill_hung(), self._keep_copies())
        return self._failed

    async def _keep(self, number: int) -> None:
        """One worker after the other."""
        if number:
            await self._first.wait()
        pause_s = LEAST_S
        while not self._stopping.is_set():
            worker = self._start()
            reading = asyncio.create_task(self._read(worker))
            code = await asyncio.to_thread(worker.process.wait)
            reading.cancel()
            self._forget(worker)
            pause_s = LEAST_S if worker.was_ready else min(2 * pause_s, MOST_S)
            await self._after(worker, code, pause_s)

    async def _after(self, worker: Worker, code: int, pause_s: float) -> None:
        """Wait before the next one starts, where there is a use in it."""
        if self._stopping.is_set():
            self._failed = self._failed or int(code != 0)
        elif code == BROKEN and not self._first.is_set():
            self._failed = BROKEN
            self.stop()
        else:
            wait_s = max(0.0, worker.started + pause_s - time.monotonic())
            logger.error("worker %d ended with %d and is started again in %.0f s", worker.process.pid, code, wait_s)
            await self._pause(wait_s)

    def _start(self) -> Worker:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, VARIABLE: to_variable(self._listening, theirs, self._copies.checkpoints())}
        with theirs, held_back():
            process = subprocess.Popen(  # noqa: S603
                self._command,
                env=environment,
                pass_fds=(self._listening.fileno(), theirs.fileno()),
                start_new_session=True,
            )
        worker = Worker(process, ours)
        self._workers.append(worker)
        return worker

    async def _read(self, worker: Worker) -> None:
        reader, _ = await asyncio.open_connection(sock=worker.reports, limit=MOST_BYTES)
        while line := await reader.readline():
            worker.take(json.loads(line))
            if worker.was_ready:
                self._first.set()

    def _forget(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.reports.close()
        if worker.report:
            told = worker.report["measures"]
            self._gone = added([self._gone, told]) if self._gone else told

    async def _kill_hung(self) -> None:
        deadline: float | None = None
        while self._workers or not self._stopping.is_set():
            await self._pause(REPORT_S)
            if self._stopping.is_set():
                await asyncio.sleep(0.05)
                deadline = deadline or time.monotonic() + self._seconds_to_finish
            for worker in self._workers:
                if worker.hangs or (deadline is not None and time.monotonic() > deadline):
                    logger.error("worker %d hangs and is killed", worker.process.pid)
                    worker.process.kill()

    async def _keep_copies(self) -> None:
        while not self._stopping.is_set():
            for worker in list(self._workers):
                if worker.ready:
                    await asyncio.to_thread(self._copies.keep, worker.report["versions"])
            await self._pause(REPORT_S)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            with suppress(ProcessLookupError):
                worker.process.send_signal(number)


def supervise(settings: Settings, listening: socket.socket, *, admin: socket.socket | None, argv: Sequence[str]) -> int:
    """Serve in several processes until SIGTERM or Ctrl-C; gives the exit code."""
    logging.config.dictConfig(log_config(settings.log_format, settings.log_level))
    with closing(Copies(settings.checkpoint)) as copies:
        return asyncio.run(_supervise(settings, listening, admin, argv, copies))


async def _supervise(
    settings: Settings, listening: socket.socket, admin: socket.socket | None, argv: Sequence[str], copies: Copies
) -> int:
    supervisor = Supervisor(
        command=[sys.executable, "-m", "serving", *argv],
        count=settings.workers,
        listening=listening,
        copies=copies,
        seconds_to_finish=settings.seconds_to_finish + 5,
    )
    keys = admin_keys(settings)

    def reload() -> None:
        keys.reload_or_tell()
        supervisor.reload()

    mind(TO_END, supervisor.stop)
    mind(TO_RELOAD, reload)
    beside = None
    if admin is not None:
        beside = asyncio.create_task(serve_admin(admin, keys=keys, state=supervisor.state, reload=reload))
    code = await supervisor.run()
    if beside is not None:
        beside.cancel()
    return code


def mind(numbers: Sequence[signal.Signals], react: Callable[[], None]) -> None:
    """In the running loop; once that is closed the signals do nothing, where add_signal_handler's would end us."""
    loop = asyncio.get_running_loop()

    def handle(*_: object) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(react)

    for number in numbers:
        signal.signal(number, handle)
