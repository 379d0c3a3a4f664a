"""`python -m benchmarks.distributed`: training steps of two processes on two cores, beside one process on one core."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.common import make_module, markdown, middle, run_benchmark, shown_middle
from nlp_app.encoding import Encoded
from nlp_app.errors import ConfigError, run_command
from nlp_app.heap import keep_all
from training.batches import Dataset
from training.joint import Told, join
from training.learner import Learner
from training.ranks import Command, Ranks
from training.recipe import Recipe
from training.together import together

PROCESSES = 2
CASES = ((64, 16), (64, 64), (64, 256), (256, 16), (256, 64), (256, 256), (1024, 16), (1024, 64))
"""Texts of a batch, and tokens of each."""
ROUNDS, STEPS = 7, 4
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
        "each by itself", "by CPU seconds",
    )  # fmt: skip
    rows = [
        (row["texts"], row["tokens"], f"{row['one']:,.0f}", f"{row['several']:,.0f}",
         *(shown_middle(row[name]) for name in ("wall", "apart", "cpu")))
        for row in result["rows"]
    ]  # fmt: skip
    reached, able = (sum(row[name]["median"] >= BAR for row in result["rows"]) for name in ("wall", "cpu"))
    return (
        f"{markdown(header, rows)}\n\n"
        "Whole steps (batch, gradient, AdamW, the mean of the weights) of the default model, with a vocabulary of "
        "30,000; a thread and a core for each process, gloo. Medians, and middle halves, of "
        f"{result['rounds']} rounds that take all in turn. Each by itself: the texts a second of {PROCESSES} processes "
        "that share nothing, of one's, which is what the cores had to give at that time. By CPU seconds: those of one "
        "process, of rank 0's, which is the ratio on free cores but for the way between the processes.\n\n"
        f"**Verdict: {reached} of {len(rows)} sizes reach {BAR} times the texts of one process, "
        f"{able} by CPU seconds.**"
    )


def work(ranks: Ranks) -> None:
    """In each process: rank 0 measures one process, several of them apart, and several together, in turn."""
    rows = []
    for texts, tokens in CASES:
        data = _data(texts, tokens)
        alone, shared = _learner(texts, len(data)), _learner(texts, len(data))
        join(shared, ranks)
        rounds = [_round(ranks, alone, shared, data) for _ in range(ROUNDS + 1)][1:]
        rows.append(_row(texts, tokens, rounds))
    if ranks.first:
        Path(os.environ[RESULT]).write_text(json.dumps({"rounds": ROUNDS, "steps": STEPS, "rows": rows}))


def _round(ranks: Ranks, alone: Learner, shared: Learner, data: Dataset) -> tuple[Times, Times, Times]:
    one = _times(alone, data) if ranks.first else Times(1, 1)
    dist.barrier()
    apart = _times(alone, data)
    if ranks.first:
        several = _times(shared, data)
        ranks.tell(Command.BEGIN)  # or whatever is no step
        return one, apart, several
    with suppress(Told):
        shared.advance(data, to=2**62, on_step=lambda *_: None)
    return one, apart, apart


def _row(texts: int, tokens: int, rounds: list[tuple[Times, Times, Times]]) -> dict[str, Any]:
    one, several = (STEPS * texts / median(times[place].wall for times in rounds) for place in (0, 2))
    return {
        "texts": texts, "tokens": tokens, "one": one, "several": several,
        "wall": middle(one.wall / several.wall for one, _, several in rounds),
        "apart": middle(PROCESSES * one.wall / apart.wall for one, apart, _ in rounds),
        "cpu": middle(one.cpu / several.cpu for one, _, several in rounds),
    }  # fmt: skip


def _times(learner: Learner, data: Dataset) -> Times:
    wall, cpu = time.perf_counter(), time.process_time()
    learner.advance(data, to=learner.step + STEPS, on_step=lambda *_: None)
    return Times(time.perf_counter() - wall, time.process_time() - cpu)


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
    keep_all()  # as training does
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(os.environ["LOCAL_RANK"])]})
    with together() as ranks:
        work(ranks)
    return 0


if __name__ == "__main__":
    run_command(main)
