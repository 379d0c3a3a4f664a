"""Whether what is freed goes back to the system (mallopt(3)): from a server it does, from training it does not.

A server lives long, and one long request must not make it large for good: glibc keeps what large arrays leave behind,
up to 64 MB in each of its arenas, once it has seen such arrays come and go: 370 MB stayed of a server that needs 320.
Training asks for the same arrays at every step, and the system clears each page that it gives anew: steps of 256 texts
of 256 tokens took twice as long.
"""

import ctypes
import gc
import mmap
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -3, -4, -8
"""Numbers of mallopt."""
LARGE = 1 << 20
"""Bytes from which on an array has memory of its own."""


def keep_little() -> None:
    """Let the allocator give back what was freed; does nothing where it is another than glibc's."""
    if (libc := _libc()) is not None:
        for parameter, value in ((MMAP_THRESHOLD, LARGE), (TRIM_THRESHOLD, 4 * LARGE), (ARENA_MAX, 2)):
            libc.mallopt(parameter, value)


def keep_all() -> None:
    """Let the allocator keep what was freed for what comes next; does nothing where it is another than glibc's."""
    if (libc := _libc()) is not None:
        for parameter, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1)):
            libc.mallopt(parameter, value)


def give_back() -> None:
    """Give back what loading left behind."""
    gc.collect()
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)


def resident() -> int:
    """Bytes of memory that the process has; 0 where the system does not say as Linux does."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    return 0


@cache
def _libc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
