"""The memory that a container may use, and what is left of it: by version 2 of cgroups, or 1."""

from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""Of each version: the limit, and what all its processes use."""


def memory_limit(cgroup: Path = CGROUP) -> int | None:
    """Bytes; None where there is no limit."""
    return _limit_and_used(cgroup)[0]


def memory_left(cgroup: Path = CGROUP) -> int | None:
    """Bytes; None where there is no limit, or it is not told what is used."""
    limit, used = _limit_and_used(cgroup)
    return None if limit is None or used is None else limit - used


def _limit_and_used(cgroup: Path) -> tuple[int | None, int | None]:
    """Of the first version that has a limit."""
    for limit_file, used_file in FILES:
        if (limit := _number(cgroup / limit_file)) is not None:
            return limit, _number(cgroup / used_file)
    return None, None


def _number(path: Path) -> int | None:
    with suppress(OSError, ValueError):  # ValueError: "max"
        return int(path.read_text())
    return None
