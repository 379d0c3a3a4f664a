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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from serving.admin import State, serve_admin
from serving.logs import log_config
from serving.measures import added
from serving.settings import Settings

VARIABLE = "NLP_APP_WORKER"
"""In a worker's environment: the numbers of the listening socket and of the one that it reports to."""
REPORT_S = 0.5
SILENT_S = 10.0
"""A worker that has told nothing for so long hangs."""
LEAST_S = 1.0
"""Between two starts of a worker."""
MOST_BYTES = 1 << 26
"""Of a report."""
BROKEN = 2
"""The exit code of a worker that can never start."""
logger = logging.getLogger(__name__)


class Worker:
    """A process, and what it told last."""

    def __init__(self, process: subprocess.Popen[bytes], reports: socket.socket) -> None:
        self.process = process
        self.reports = reports
        self.report: Mapping[str, Any] = {}
        self.started = self.told = time.monotonic()
        self.was_ready = False

    def take(self, report: Mapping[str, Any]) -> None:
        """Keep a report."""
        self.report, self.told = report, time.monotonic()
        self.was_ready = self.was_ready or report["ready"]

    @property
    def hangs(self) -> bool:
        """Whether it should be killed."""
        return bool(self.report.get("lost")) or (self.was_ready and time.monotonic() - self.told > SILENT_S)


class Supervisor:
    """Starts workers, and starts them again."""

    def __init__(self, *, argv: Sequence[str], count: int, listening: socket.socket, seconds_to_finish: float) -> None:
        self._argv = list(argv)
        self._count = count
        self._listening = listening
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
        self._signal(signal.SIGHUP)

    def state(self) -> State:
        """Of all workers."""
        reports = [worker.report for worker in self._workers if worker.report]
        values = [report["measures"] for report in reports] + ([self._gone] if self._gone else [])
        ready = sum(bool(report["ready"]) for report in reports)
        gauges = {
            "workers_ready": ready,
            "waiting_texts": sum(report["waiting_texts"] for report in reports),
            "connections": sum(report["connections"] for report in reports),
        }
        return State(added(values) if values else {}, gauges, ready > 0, True)

    async def run(self) -> int:
        """Until it is stopped; gives the exit code."""
        await asyncio.gather(*(self._keep(number) for number in range(self._count)), self._kill_hung())
        return self._failed

    async def _keep(self, number: int) -> None:
        """One worker after the other."""
        if number:
            await self._first.wait()
        while not self._stopping.is_set():
            worker = self._start()
            reading = asyncio.create_task(self._read(worker))
            code = await self._ended(worker)
            reading.cancel()
            self._forget(worker)
            if self._stopping.is_set():
                self._failed = self._failed or int(code != 0)
            elif code == BROKEN and not worker.was_ready:
                self._failed = BROKEN
                self.stop()
            else:
                logger.error("worker %d ended with %d and is started again", worker.process.pid, code)
                await self._pause(worker.started + LEAST_S - time.monotonic())

    def _start(self) -> Worker:
        ours, theirs = socket.socketpair()
        fds = (self._listening.fileno(), theirs.fileno())
        environment = {**os.environ, VARIABLE: ",".join(map(str, fds))}
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "serving", *self._argv], env=environment, pass_fds=fds, start_new_session=True
        )
        theirs.close()
        worker = Worker(process, ours)
        self._workers.append(worker)
        return worker

    async def _read(self, worker: Worker) -> None:
        reader, _ = await asyncio.open_connection(sock=worker.reports, limit=MOST_BYTES)
        while line := await reader.readline():
            worker.take(json.loads(line))
            if worker.was_ready:
                self._first.set()

    async def _ended(self, worker: Worker) -> int:
        return await asyncio.to_thread(worker.process.wait)

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

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(0.0, seconds))

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            with suppress(ProcessLookupError):
                worker.process.send_signal(number)


def sockets_of(value: str) -> tuple[socket.socket, socket.socket]:
    """The listening socket and the one to report to, of VARIABLE."""
    listening, reports = (socket.socket(fileno=int(number)) for number in value.split(","))
    reports.setblocking(False)
    return listening, reports


def supervise(settings: Settings, listening: socket.socket, *, admin: socket.socket | None, argv: Sequence[str]) -> int:
    """Serve in several processes until SIGTERM or Ctrl-C; gives the exit code."""
    return asyncio.run(_supervise(settings, listening, admin, argv))


async def _supervise(
    settings: Settings, listening: socket.socket, admin: socket.socket | None, argv: Sequence[str]
) -> int:
    logging.config.dictConfig(log_config(settings.log_format, settings.log_level))
    supervisor = Supervisor(
        argv=argv, count=settings.workers, listening=listening, seconds_to_finish=settings.seconds_to_finish + 5
    )
    loop = asyncio.get_running_loop()
    for number, react in (
        (signal.SIGTERM, supervisor.stop), (signal.SIGINT, supervisor.stop), (signal.SIGHUP, supervisor.reload)
    ):  # fmt: skip
        loop.add_signal_handler(number, react)

    async def reload() -> None:
        supervisor.reload()

    beside = None
    if admin is not None:
        beside = asyncio.create_task(serve_admin(settings, admin, supervisor.state, reload))
    code = await supervisor.run()
    if beside is not None:
        beside.cancel()
    return code
