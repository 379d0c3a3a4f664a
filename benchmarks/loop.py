"""`python -m benchmarks.loop`: the training loop's texts/s beside bare forward, backward and step.

The loop is that of training.run between two evaluations: it makes its batches, drops tokens, keeps a mean of the
weights, shows how far it is and looks whether it should stop. The bare one takes the very same batches, as tensors made
beforehand, and does none of this.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import chain, count, islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import device_name, markdown, middle, run_benchmark
from nlp_app.errors import DataError, run_command
from training.assemble import new_learner
from training.batches import epoch_batches
from training.console import make_console
from training.fit import SELECTION, advance_watched
from training.interrupt import StopRequest
from training.measure import Work, seconds
from training.options import Options
from training.prepare import Prepared, prepare
from training.progress import Watch

SETS = {"imdb": (4, 15), "banking77": (39, 25)}
"""Steps of each loop in a turn, and turns: short ones and many, for the machine's pace changes within seconds."""
BAR = 0.9


def measure(device: torch.device) -> dict[str, Any]:
    """texts/s of both loops on the same batches, taking turns."""
    folder = data_folder()
    rows = [
        {"set": name, **row(folder / name / "train.csv.gz", device, steps, turns)}
        for name, (steps, turns) in SETS.items()
    ]
    return {"device": device_name(device), "rows": rows, "bar": BAR, "turns": {name: SETS[name][1] for name in SETS}}


def row(path: Path, device: torch.device, steps: int, turns: int) -> dict[str, float]:
    """The ratio of both loops' seconds, turn by turn: its median and middle half; and the bare one's texts/s."""
    options = Options(train=path, device=device.type, precision="float32")
    prepared = prepare(options, make_console())
    batches = _batches(prepared, options, steps * (turns + 1))
    pairs = _pairs(_loop(options, prepared, steps), _bare(options, prepared, batches, steps, device), device, turns)
    texts = [sum(len(targets) for _, targets in batches[first : first + steps])
             for first in range(steps, len(batches), steps)]  # fmt: skip
    bare = median(number / bare for number, (_, bare) in zip(texts, pairs, strict=True))
    ratio = middle(bare / loop for loop, bare in pairs)
    return {"bare": bare, "ratio": ratio["median"], "ratio_low": ratio["low"], "ratio_high": ratio["high"]}


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
    rows = [
        (row["set"], f"{row['bare']:,.0f}", f"{row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f})",
         f"{row['ratio'] * row['bare']:,.0f}")
        for row in result["rows"]
    ]  # fmt: skip
    header = ("set", "bare, texts/s", "loop, of bare", "so the loop, texts/s")
    kept = all(row["ratio"] >= result["bar"] for row in result["rows"])
    turns = " and ".join(f"{turns} turns on {name}" for name, turns in result["turns"].items())
    return (
        f"{markdown(header, rows)}\n\n"
        f"The default model, {result['device']}. In each of {turns} both take the same batches, one after the other. "
        "The ratio is the median over the turns of the bare one's seconds to the loop's in the same turn, with the "
        "middle half of the turns, since the machine's pace changes from turn to turn. "
        f"The bar is {result['bar']}: {'kept' if kept else 'missed'}."
    )


def _pairs(loop: Work, bare: Work, device: torch.device, turns: int) -> list[tuple[float, float]]:
    """Seconds of both, turn by turn after one to warm up, each of them first in every other turn."""
    loop(), bare()
    found = []
    for turn in range(turns):
        first, second = (loop, bare) if turn % 2 else (bare, loop)
        times = seconds(first, device), seconds(second, device)
        found.append(times if turn % 2 else times[::-1])
    return found


def _loop(options: Options, prepared: Prepared, steps: int) -> Work:
    """As training.fit takes its steps."""
    console, stop = make_console(), StopRequest()
    learner = new_learner(options, prepared, prepared.train, console)

    def work() -> None:
        with Watch(console=console, phase=SELECTION, epochs=learner.recipe.epochs, done=learner.epoch) as watch:
            advance_watched(learner, prepared.train, to=learner.step + steps, watch=watch, stop=stop)

    return work


def _bare(
    options: Options, prepared: Prepared, batches: list[tuple[Tensor, Tensor]], steps: int, device: torch.device
) -> Work:
    module = prepared.new_module(0).to(device).train()
    recipe = options.recipe(len(prepared.train), prepared.config.num_classes)
    optimizer = torch.optim.AdamW(module.parameters(), lr=recipe.learning_rate, fused=True)
    rest = iter([tuple(tensor.to(device) for tensor in batch) for batch in batches])

    def work() -> None:
        for input_ids, targets in islice(rest, steps):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(module(input_ids), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return work


def _batches(prepared: Prepared, options: Options, steps: int) -> list[tuple[Tensor, Tensor]]:
    """Those of the loop's first steps, epoch by epoch."""
    epochs: Iterator[Any] = (
        epoch_batches(prepared.train.lengths, batch_size=options.batch_size, seed=options.seed, epoch=epoch)
        for epoch in count(1)
    )
    return [prepared.train.batch(rows) for rows in islice(chain.from_iterable(epochs), steps)]


def main() -> int:
    """Measure, print, write; gives the exit code."""
    return run_benchmark("loop", __doc__, measure, section)


if __name__ == "__main__":
    run_command(main)
