"""How many processors a process may use: a container's quota counts, not the machine that it runs on."""

import os
from contextlib import suppress
from pathlib import Path

from nlp_app.cgroup import CGROUP


def available_cpus(cgroup: Path = CGROUP) -> int:
    """Processors that the scheduler and the quota let the process have, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, int(_quota(cgroup) or allowed)))


def _quota(cgroup: Path) -> float | None:
    """Of version 2 or 1 of cgroups; None where there is none."""
    with suppress(OSError, ValueError):
        quota, period = (cgroup / "cpu.max").read_text().split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None
