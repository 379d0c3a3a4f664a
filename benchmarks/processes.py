"""Processes that benchmarks start: ended with what they started, however this one ends."""

import os
import resource
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NoReturn


@contextmanager
def running(
    command: Sequence[object],
    *,
    core: int | None = None,
    files: int | None = None,
    environment: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process and its children in a group of their own, which is gone when this is left.

    Args:
        command: the program and its arguments.
        core: the only one that it may use.
        files: the most that it may have open.
        environment: variables beside those of this process.
        log: where its standard error goes, if not to that of this process.
    """
    prefix = ["setpriv", "--pdeathsig", "KILL"]  # however this process ends
    prefix += [] if core is None else ["taskset", "-c", str(core)]
    prefix += [] if files is None else ["prlimit", f"--nofile={files}:{files}"]
    process = subprocess.Popen(
        [*prefix, *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], patience_s: float = 5.0) -> None:
    """Ask it to stop, then kill what is left of its group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_by_signal() -> None:
    """Let SIGTERM end this process as an exception does, so that the servers go with it."""

    def leave(*_: object) -> NoReturn:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, leave)


def allow_files(count: int) -> None:
    """Let this process open so many files more than it has need of now, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count + 256, hard)), hard))


def resident_mb(pid: int) -> float:
    """Resident memory in MB of 10^6 bytes."""
    told = Path(f"/proc/{pid}/status").read_text().partition("\nVmRSS:")[2]
    return int(told.split()[0]) * 1024 / 1e6


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(path.parent.name))
    return sorted(found)
