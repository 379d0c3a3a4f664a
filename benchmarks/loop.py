"""`python -m benchmarks.loop`: the training loop's texts/s beside bare forward, backward and step.

The bare loop has its batches as tensors beforehand, drops no tokens, and keeps no mean of the weights.
"""

import os
from collections.abc import Mapping
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import device_name, markdown, run_benchmark
from nlp_app.errors import DataError, run_command
from training.assemble import new_learner
from training.batches import epoch_batches
from training.console import make_console
from training.measure import Work, seconds
from training.options import Options
from training.prepare import Prepared, prepare

SETS = {"imdb": (4, 15), "banking77": (39, 25)}
"""Steps of each loop in a turn, and turns: short ones and many, for the machine's pace changes within seconds."""
BAR = 0.9


def measure(device: torch.device) -> dict[str, Any]:
    """texts/s of both loops on the same batches, taking turns."""
    folder, rows = data_folder(), []
    for name, (steps, turns) in SETS.items():
        options = Options(train=folder / name / "train.csv.gz", device=device.type, precision="float32")
        prepared = prepare(options, make_console())
        texts = steps * options.batch_size
        pairs = _pairs(_loop(options, prepared, steps), _bare(options, prepared, steps, device), device, turns)
        loop, bare = (median(column) for column in zip(*pairs, strict=True))
        ratio = median(bare / loop for loop, bare in pairs)
        rows.append({"set": name, "loop": texts / loop, "bare": texts / bare, "ratio": ratio})
    return {"device": device_name(device), "rows": rows, "bar": BAR}


def data_folder() -> Path:
    """Where the data sets are.

    Raises:
        DataError: NLP_APP_DATA names no folder of data sets.
    """
    folder = Path(os.environ.get("NLP_APP_DATA", ""))
    if not all((folder / name / "train.csv.gz").is_file() for name in SETS):
        raise DataError(f"which sets? set NLP_APP_DATA to a folder with {' and '.join(SETS)}")
    return folder


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    rows = [(row["set"], f"{row['loop']:,.0f}", f"{row['bare']:,.0f}", f"{row['ratio']:.3f}") for row in result["rows"]]
    header = ("set", "loop, texts/s", "bare, texts/s", "of bare")
    return f"{markdown(header, rows)}\n\nThe default model, {result['device']}; the bar is {result['bar']}."


def _pairs(loop: Work, bare: Work, device: torch.device, turns: int) -> list[tuple[float, float]]:
    """Seconds of both on the same batches, turn by turn, each of them first in every other turn."""
    loop(), bare()
    found = []
    for turn in range(turns):
        first, second = (loop, bare) if turn % 2 else (bare, loop)
        times = seconds(first, device), seconds(second, device)
        found.append(times if turn % 2 else times[::-1])
    return found


def _loop(options: Options, prepared: Prepared, steps: int) -> Work:
    learner = new_learner(options, prepared, prepared.train, make_console())
    return lambda: learner.advance(prepared.train, to=learner.step + steps, on_step=lambda *_: None)


def _bare(options: Options, prepared: Prepared, steps: int, device: torch.device) -> Work:
    module = prepared.new_module(0).to(device).train()
    recipe = options.recipe(len(prepared.train))
    optimizer = torch.optim.AdamW(module.parameters(), lr=recipe.learning_rate, fused=True)
    batches = cycle([tuple(tensor.to(device) for tensor in batch) for batch in _batches(prepared, options)])

    def work() -> None:
        for input_ids, targets in islice(batches, steps):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(module(input_ids), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return work


def _batches(prepared: Prepared, options: Options) -> list[tuple[Tensor, Tensor]]:
    """Those of the loop's first epoch."""
    lengths = [len(text.input_ids) for text in prepared.train.encoded]
    batches = epoch_batches(lengths, batch_size=options.batch_size, seed=options.seed, epoch=1)
    return [prepared.train.batch(rows) for rows in batches]


def main() -> int:
    """Measure, print, write; gives the exit code."""
    return run_benchmark("loop", __doc__, measure, section)


if __name__ == "__main__":
    run_command(main)
