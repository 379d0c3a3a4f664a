"""Whether the models fit into the memory that a container may use: said before the kernel ends the process."""

import json
from pathlib import Path

from nlp_app.cgroup import CGROUP, memory_left, memory_limit
from nlp_app.errors import ConfigError
from nlp_app.folder import ONNX_FILE
from nlp_app.parts import CONFIG, MODEL
from serving.settings import Settings

MB = 1_000_000
FLOAT32 = "float32"
"""As nlp_app.quantize calls it, which would load torch into the server without it."""
PROCESS_MB = {"torch": 220, "onnx": 65}
"""Of a process that has no model yet: what it writes, since the kernel takes back what it read from files."""
TABLE = 1 << 27
"""Bytes; a larger table of convolutions is not made (nlp_app/folded.py)."""


def check_memory(settings: Settings, cgroup: Path = CGROUP) -> None:
    """Raise a ConfigError where the models need more than the process and its siblings may use."""
    allowed, needed = memory_limit(cgroup), needed_bytes(settings) * settings.workers
    if allowed is not None and needed > allowed:
        fewer = " or fewer --workers" if settings.workers > 1 else ""
        raise ConfigError(
            f"the server needs about {needed / MB:.0f} MB of memory, but may use {allowed / MB:.0f}: "
            f"give its container more{fewer}"
        )


def needed_bytes(settings: Settings) -> int:
    """What a process writes at most while it loads its models, about."""
    return PROCESS_MB[settings.runtime] * MB + sum(
        _of_model(one.folder, settings.runtime) for one in settings.checkpoint
    )


def check_reload(folder: Path, runtime: str, cgroup: Path = CGROUP) -> None:
    """Raise a ConfigError where a model does not fit beside all that is in memory now, the one that it replaces too."""
    allowed, left, needed = memory_limit(cgroup), memory_left(cgroup), _of_model(folder, runtime)
    if allowed is not None and left is not None and needed > left:
        raise ConfigError(
            f"{folder} needs about {needed / MB:.0f} MB of memory beside the old one, but {left / MB:.0f} "
            f"are left of {allowed / MB:.0f}: give the container more, or start the server again"
        )


def _of_model(folder: Path, runtime: str) -> int:
    """What is written in memory while a model is loaded, about; 0 of one that cannot be: loading it will say why."""
    try:
        if runtime == "onnx":
            return 2 * (folder / ONNX_FILE).stat().st_size
        config = json.loads((folder / CONFIG).read_bytes())
        model, stored = config["model"], (folder / MODEL).stat().st_size
        table = 4 * model["vocab_size"] * sum(model["kernel_sizes"]) * model["num_filters"]
        # Of 8 bits on disk each weight becomes one of 32 in memory, while the file is there too.
        weights = 5 * stored if config.get("weights", FLOAT32) != FLOAT32 else 2 * stored
        return int(weights + (2 * table if table <= TABLE else 0))
    except (OSError, ValueError, LookupError, TypeError):
        return 0
