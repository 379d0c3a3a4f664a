"""A worker, as its supervisor knows it (serving/supervisor.py), and what it is told when it starts."""

import json
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nlp_app.errors import ConfigError
from serving.settings import Served

VARIABLE = "NLP_APP_WORKER"
"""In a worker's environment: its Handover."""
REPORT_S = 0.5
LATE_S = 3.0
"""A worker that has told nothing for so long is not ready."""
SILENT_S = 10.0
"""One that was ready and has told nothing for so long hangs."""
START_S = 120.0
"""One that was not: it may have much to import from a slow disk before it tells anything."""


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
    def ready(self) -> bool:
        """Whether it answers, as far as is known."""
        return bool(self.report.get("ready")) and self._silent_s <= LATE_S

    @property
    def hangs(self) -> bool:
        """Whether it should be killed."""
        return bool(self.report.get("lost")) or self._silent_s > (SILENT_S if self.was_ready else START_S)

    @property
    def _silent_s(self) -> float:
        return time.monotonic() - self.told


class Handover(NamedTuple):
    """What a worker gets from its supervisor."""

    listening: socket.socket
    reports: socket.socket
    checkpoints: tuple[Served, ...]
    """By the names that they have in every worker, whatever a link points to by now."""


def to_variable(listening: socket.socket, reports: socket.socket, checkpoints: Sequence[Served]) -> str:
    """For VARIABLE."""
    served = [[*one[:2], str(one.folder), one.copy and str(one.copy)] for one in checkpoints]
    return json.dumps([listening.fileno(), reports.fileno(), served])


def read_variable(value: str) -> Handover:
    """Of VARIABLE.

    Raises:
        ConfigError: no supervisor wrote it.
    """
    try:
        *numbers, served = json.loads(value)
        listening, reports = (socket.socket(fileno=number) for number in numbers)
        checkpoints = tuple(
            Served(name, version, Path(folder), copy and Path(copy)) for name, version, folder, copy in served
        )
    except (ValueError, TypeError, OverflowError, OSError):
        raise ConfigError(
            f"{VARIABLE} is {value!r}, but is set by a server for its workers alone: unset it, or set {VARIABLE}S"
        ) from None
    reports.setblocking(False)
    return Handover(listening, reports, checkpoints)
