"""`python -m benchmarks.sizes`: the time of a step at sizes around powers of two."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from benchmarks.common import device_name, markdown, run_benchmark
from nlp_app.config import ModelConfig
from nlp_app.errors import run_command
from training.measure import median_seconds
from training.sizes import NAMES, step, with_size

SIZES = (48, 63, 64, 65, 80, 96, 100, 112, 127, 128, 129, 144, 160, 192, 250, 256, 257)
CONFIG = ModelConfig(labels=("a", "b"), vocab_size=64)
ROUNDS = 7


def measure(device: torch.device) -> dict[str, Any]:
    """Nanoseconds a size unit and token, of forward and backward, for each name, precision and size."""
    texts, tokens = (16, 32) if device.type == "cpu" else (256, 128)
    rows = []
    for precision in ("float32", "bfloat16") if device.type == "cpu" else ("float32", "tf32", "bfloat16"):
        for name in NAMES:
            works = [step(with_size(CONFIG, name, size), texts, tokens, device, _dtype(precision)) for size in SIZES]
            with _tf32(precision == "tf32"):
                times = median_seconds(works, device, rounds=ROUNDS)
            rows += [
                {"precision": precision, "name": name, "size": size, "seconds": seconds,
                 "ns": 1e9 * seconds / size / texts / tokens}
                for size, seconds in zip(SIZES, times, strict=True)
            ]  # fmt: skip
    return {"device": device_name(device), "texts": texts, "tokens": tokens, "rows": rows}


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    groups = list(dict.fromkeys((row["precision"], row["name"]) for row in result["rows"]))
    of = {(row["precision"], row["name"], row["size"]): row["ns"] for row in result["rows"]}
    rows = [(size, *(f"{of[(*group, size)]:.2f}" for group in groups)) for size in SIZES]
    ratios = {kind: {group: _cost(of, group, kind) for group in groups} for kind in KINDS}
    rows += [(name, *(f"{ratio:.2f}" for ratio in ratios[name].values())) for name in KINDS]
    header = ("size", *(f"{name}, {precision}" for precision, name in groups))
    powers, odd = (median(ratios[kind].values()) for kind in KINDS)
    special = powers > 1.05
    verdict = "holds" if special else "holds only when the size is no multiple of 16" if odd > 1.05 else "does not hold"
    return (
        f"{markdown(header, rows)}\n\n"
        f"Nanoseconds of forward and backward for each token and each unit of the size; {result['texts']} texts of "
        f"{result['tokens']} tokens, {result['device']}. The last rows are ratios to what powers of two cost.\n\n"
        f"**Verdict: {verdict}.** Multiples of 16 that are no powers of two cost {powers:.2f} times as much a unit as "
        f"powers of two, other sizes {odd:.2f} times (medians)."
    )


KINDS = {
    "multiples of 16, to powers of two": (80, 96, 112, 144, 160, 192),
    "other sizes, to powers of two": (63, 65, 100, 127, 129, 250, 257),
}


def _cost(of: Mapping[tuple[str, str, int], float], group: tuple[str, str], kind: str) -> float:
    """The median over the sizes of a kind of the cost a unit, to the line between 64, 128 and 256."""
    return median(of[(*group, size)] / _line(of, group, size) for size in KINDS[kind])


def _line(of: Mapping[tuple[str, str, int], float], group: tuple[str, str], size: int) -> float:
    """What a unit would cost at the size, between the powers of two on both sides of it."""
    low, high = (64, 128) if size < 128 else (128, 256)
    share = min(1.0, max(0.0, (size - low) / (high - low)))
    return of[(*group, low)] * (1 - share) + of[(*group, high)] * share


def _dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


@contextmanager
def _tf32(on: bool) -> Iterator[None]:
    """Let a GPU round float32's factors to 10 bits of mantissa meanwhile."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def main() -> int:
    """Measure, print, write; gives the exit code."""
    return run_benchmark("sizes", __doc__, measure, section)


if __name__ == "__main__":
    run_command(main)
