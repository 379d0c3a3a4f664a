"""`python -m benchmarks.distributed`: training steps of two processes on two cores, beside one process on one core."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.common import make_module, markdown, middle, run_benchmark, shown_middle
from nlp_app.encoding import Encoded
from nlp_app.errors import ConfigError, run_command
from training.batches import Dataset
from training.joint import Told, join
from training.learner import Learner
from training.ranks import Command, Ranks, together
from training.recipe import Recipe

PROCESSES = 2
CASES = ((64, 16), (64, 64), (64, 256), (256, 16), (256, 64))
"""Texts of a batch, and tokens of each."""
ROUNDS, STEPS = 9, 4
BAR = 1.5
RESULT = "NLP_APP_BENCHMARK_RESULT"


class Times(NamedTuple):
    """Seconds of STEPS steps: on the clock, and of this process on its core."""

    wall: float
    cpu: float


def measure(device: torch.device) -> dict[str, Any]:
    """Start the processes, each on a core of its own, and read what they found."""
    cores = sorted(os.sched_getaffinity(0))
    if device.type != "cpu" or len(cores) < PROCESSES:
        raise ConfigError(f"this measures {PROCESSES} cores of a CPU, but there are {len(cores)}, --device {device}")
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", RESULT: str(result)}
        subprocess.run([*torchrun, "-m", "benchmarks.distributed"], check=True, env=environment)
        found: dict[str, Any] = json.loads(result.read_bytes())
        return found


def section(result: Mapping[str, Any]) -> str:
    """What is printed."""
    header = (
        "texts a batch", "tokens a text", "one process, texts/s", f"{PROCESSES} processes, texts/s", "ratio",
        "by CPU seconds",
    )  # fmt: skip
    rows = [
        (row["texts"], row["tokens"], f"{row['one']:,.0f}", f"{row['several']:,.0f}",
         shown_middle(row["wall"]), shown_middle(row["cpu"]))
        for row in result["rows"]
    ]  # fmt: skip
    reached = [row for row in result["rows"] if row["wall"]["median"] >= BAR]
    able = [row for row in result["rows"] if row["cpu"]["median"] >= BAR]
    return (
        f"{markdown(header, rows)}\n\n"
        f"Whole steps (batch, gradient, AdamW, the mean of the weights) of the default model, 30,000 tokens in its vocabulary; "
        f"a thread and a core for each process, gloo; medians, and middle halves, of {result['rounds']} rounds that take both in "
        "turn. Where other programs use the cores a process waits for the other's turn too: the CPU seconds of rank 0 tell "
        "what would be left without them, and without the time on the way between the processes.\n\n"
        f"**Verdict: {len(reached)} of {len(rows)} sizes reach {BAR} times the texts of one process, {len(able)} by CPU seconds.**"
    )


def work(ranks: Ranks) -> None:
    """In each process: rank 0 measures, alone and together in turn."""
    rows = []
    for texts, tokens in CASES:
        data = _data(texts, tokens)
        alone, shared = _learner(texts, len(data)), _learner(texts, len(data))
        join(shared, ranks)
        if ranks.first:
            pairs = [(_times(alone, data), _times(shared, data)) for _ in range(ROUNDS + 1)][1:]
            ranks.tell(Command.BEGIN)  # or whatever ends the other's steps
            rows.append(_row(texts, tokens, pairs))
        else:
            _follow(shared, data)
    if ranks.first:
        Path(os.environ[RESULT]).write_text(json.dumps({"rounds": ROUNDS, "steps": STEPS, "rows": rows}))


def _row(texts: int, tokens: int, pairs: list[tuple[Times, Times]]) -> dict[str, Any]:
    one, several = (STEPS * texts / median(pair[place].wall for pair in pairs) for place in (0, 1))
    return {
        "texts": texts, "tokens": tokens, "one": one, "several": several,
        "wall": middle(one.wall / several.wall for one, several in pairs),
        "cpu": middle(one.cpu / several.cpu for one, several in pairs),
    }  # fmt: skip


def _times(learner: Learner, data: Dataset) -> Times:
    wall, cpu = time.perf_counter(), time.process_time()
    learner.advance(data, to=learner.step + STEPS, on_step=lambda *_: None)
    return Times(time.perf_counter() - wall, time.process_time() - cpu)


def _follow(learner: Learner, data: Dataset) -> None:
    try:
        learner.advance(data, to=2**62, on_step=lambda *_: None)
    except Told:
        pass


def _data(texts: int, tokens: int) -> Dataset:
    """Texts whose tokens are as frequent as words are: Zipf's law."""
    draw = np.random.default_rng(0)
    frequency = 1 / np.arange(1, 29_999)
    ids = draw.choice(29_998, size=(20 * texts, tokens), p=frequency / frequency.sum()).astype(np.int32) + 2
    return Dataset([Encoded(row, truncated=False) for row in ids], torch.from_numpy(draw.integers(2, size=len(ids))))


def _learner(texts: int, of: int) -> Learner:
    recipe = Recipe(
        epochs=100, batch_size=texts, learning_rate=1.5e-3, weight_decay=0.01, token_dropout=0.1, average_decay=0.99,
        seed=0, patience=2,
    )  # fmt: skip
    device = torch.device("cpu")
    return Learner(module=make_module(device), recipe=recipe, device=device, texts=of)


def main() -> int:
    """Measure, print, write; gives the exit code."""
    if RESULT not in os.environ:
        return run_benchmark("distributed", __doc__, measure, section)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(os.environ["LOCAL_RANK"])]})
    with together() as ranks:
        work(ranks)
    return 0


if __name__ == "__main__":
    run_command(main)
