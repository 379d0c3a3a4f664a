"""What the benchmarks of the mechanisms share: a model, a batch, a command line, tables."""

import argparse
import json
import platform
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import quantiles, stdev
from typing import Any

import torch
from torch import Tensor

from nlp_app.config import ModelConfig
from nlp_app.device import find_device
from nlp_app.model import TextClassifier
from training.console import make_console
from training.measure import Work, seconds

Rows = Sequence[Sequence[object]]


def make_module(device: torch.device, *, vocab_size: int = 30_000, classes: int = 2, **values: Any) -> TextClassifier:
    """A module with the default sizes, in training mode, always the same."""
    torch.manual_seed(0)
    labels = tuple(map(str, range(classes)))
    config = ModelConfig(labels=labels, vocab_size=vocab_size, **values)
    return TextClassifier(config=config).to(device).train()


def make_batch(
    device: torch.device, *, texts: int = 64, tokens: int = 512, vocab_size: int = 30_000, classes: int = 2
) -> tuple[Tensor, Tensor]:
    """input_ids (B, T) without padding, and targets (B,)."""
    torch.manual_seed(1)
    input_ids = torch.randint(2, vocab_size, (texts, tokens), device=device)
    return input_ids, torch.randint(classes, (texts,), device=device)


def device_name(device: torch.device) -> str:
    """As a person would name it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"


def markdown(header: Sequence[str], rows: Rows) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def rounds_of(works: Sequence[Work], device: torch.device, rounds: int) -> list[list[float]]:
    """Seconds of each work, round by round, after a call to warm up.

    Each round takes the works in an order of its own, so that none always follows the same one; the same orders always.
    """
    draw = random.Random(0)
    for work in works:
        work()
    found = []
    for _ in range(rounds):
        order = draw.sample(range(len(works)), len(works))
        times = {place: seconds(works[place], device) for place in order}
        found.append([times[place] for place in range(len(works))])
    return found


def middle(values: Iterable[float]) -> dict[str, float]:
    """The median of two values or more, and the ends of their middle half, which is the noise of one of them."""
    low, median, high = quantiles(values, n=4, method="inclusive")
    return {"low": low, "median": median, "high": high}


def shown_middle(found: Mapping[str, float]) -> str:
    """Median and middle half."""
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def spread(values: Sequence[float]) -> float:
    """The standard deviation; 0 where there is a single value."""
    return stdev(values) if len(values) > 1 else 0.0


def rounded(values: Any) -> Any:
    """The same JSON values with five digits behind the point."""
    if isinstance(values, dict):
        return {key: rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return round(values, 5) if isinstance(values, float) else values


def run_benchmark(
    name: str,
    description: str | None,
    measure: Callable[[torch.device], Mapping[str, Any]],
    section: Callable[..., str],
) -> int:
    """The command line of a benchmark: measure, print the section, write the JSON."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--device", default="cpu", help="cpu, cuda …")
    parser.add_argument("--output", type=Path, help="write every figure to this JSON file")
    options = parser.parse_args()
    result = measure(find_device(options.device))
    make_console().print(section(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0
