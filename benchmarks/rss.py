"""Memory of a run and of every process that it starts, sampled as it goes."""

import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
APART_S = 0.05
"""Between two looks."""


def peak_of(command: Sequence[str]) -> tuple[int, str]:
    """Run a command to its end; the largest sum of RssAnon of its processes, in bytes, and what it printed.

    Raises:
        CalledProcessError: it failed; what it said is on standard error.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(APART_S):
            peak[0] = max(peak[0], sum(anonymous_bytes(one) for one in tree_of(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        printed = process.communicate()[0]
    finally:
        over.set()
        watcher.join()
    if process.returncode:
        print(printed, file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return peak[0], printed


def tree_of(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in PROC.iterdir():
        if path.name.isdigit():
            with suppress(OSError, IndexError):  # it has ended
                parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
                children[int(parent)].append(int(path.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def anonymous_bytes(pid: int) -> int:
    """RssAnon; 0 of a process that has ended."""
    with suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
