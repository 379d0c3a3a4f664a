"""Whether the models fit into the memory that a container may use: said before the kernel ends the process."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nlp_app.errors import ConfigError
from nlp_app.folder import ONNX_FILE
from nlp_app.parts import CONFIG, MODEL
from serving.cpus import CGROUP
from serving.settings import Settings

MB = 1_000_000
PROCESS_MB = {"torch": 190, "onnx": 65}
"""Of a process that has no model yet: what it writes, since the kernel takes back what it read from files."""
TABLE = 1 << 27
"""Bytes; a larger table of convolutions is not made (nlp_app/folded.py)."""
LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Of version 2 and 1 of cgroups."""


def check_memory(settings: Settings, cgroup: Path = CGROUP) -> None:
    """Raise a ConfigError where the models need more than the process and its siblings may use."""
    allowed, needed = allowed_bytes(cgroup), needed_bytes(settings) * settings.workers
    if allowed is not None and needed > allowed:
        fewer = " or fewer --workers" if settings.workers > 1 else ""
        raise ConfigError(
            f"the server needs about {needed / MB:.0f} MB of memory, but may use {allowed / MB:.0f}: "
            f"give its container more{fewer}"
        )


def needed_bytes(settings: Settings) -> int:
    """What a process writes at most while it loads its models, about."""
    return PROCESS_MB[settings.runtime] * MB + sum(_of_models(settings))


def _of_models(settings: Settings) -> Iterator[int]:
    for served in settings.checkpoint:
        with suppress(OSError, ValueError, LookupError, TypeError):  # loading it will say what is wrong with it
            if settings.runtime == "onnx":
                yield 2 * (served.folder / ONNX_FILE).stat().st_size
            else:
                model = json.loads((served.folder / CONFIG).read_bytes())["model"]
                table = 4 * model["vocab_size"] * sum(model["kernel_sizes"]) * model["num_filters"]
                yield 2 * (served.folder / MODEL).stat().st_size + (2 * table if table <= TABLE else 0)


def allowed_bytes(cgroup: Path) -> int | None:
    """That a container may use; None where there is no limit."""
    for name in LIMITS:
        with suppress(OSError, ValueError):
            return int((cgroup / name).read_text())
    return None
