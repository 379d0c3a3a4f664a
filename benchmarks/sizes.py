"""`python -m benchmarks.sizes`: the time of a step at sizes around powers of two."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from benchmarks.common import device_name, markdown, middle, rounds_of, run_benchmark, shown_middle
from nlp_app.config import ModelConfig
from nlp_app.errors import run_command
from training.sizes import NAMES, step, with_size

SIZES = (48, 63, 64, 65, 80, 96, 100, 112, 127, 128, 129, 144, 160, 192, 240, 250, 256, 257)
POWERS = (64, 128, 256)
CONTROL = "powers of two, timed again"
"""Modules of their own, with the same sizes: as far as their ratio is from 1, ratios are noise."""
MULTIPLES, OTHERS = "multiples of 16, no powers of two", "other sizes"
KINDS = {CONTROL: POWERS, MULTIPLES: (80, 96, 112, 144, 160, 192, 240), OTHERS: (65, 100, 127, 129, 250)}
"""Sizes between powers of two that were measured; of 48, 63 and 257 the line between them says nothing."""
CONFIG = ModelConfig(labels=("a", "b"), vocab_size=64)
ROUNDS = 25


def measure(device: torch.device) -> dict[str, Any]:
    """Seconds of forward and backward for each name, precision and size, and ratios to the line of powers of two."""
    texts, tokens = (16, 32) if device.type == "cpu" else (256, 128)
    rows: list[dict[str, Any]] = []
    kinds: list[dict[str, Any]] = []
    for precision in ("float32", "bfloat16") if device.type == "cpu" else ("float32", "tf32", "bfloat16"):
        for name in NAMES:
            configs = [with_size(CONFIG, name, size) for size in (*SIZES, *POWERS)]
            works = [step(config, texts, tokens, device, _dtype(precision)) for config in configs]
            with _tf32(precision == "tf32"):
                rounds = rounds_of(works, device, ROUNDS)
            group = {"precision": precision, "name": name}
            rows += [{**group, **row} for row in by_size(rounds)]
            kinds += [{**group, "kind": kind, **middle(by_kind(times, kind) for times in rounds)} for kind in KINDS]
    return {"device": device_name(device), "texts": texts, "tokens": tokens, "rounds": ROUNDS, "rows": rows,
            "kinds": kinds}  # fmt: skip


def line(of: Mapping[int, float], size: int) -> float | None:
    """The seconds at a size on the straight line between the powers of two on both sides of it; None beyond them.

    Of the seconds, not of seconds a unit: those fall with the size like 1 / size, and a line between them lies above
    every size between.
    """
    if not POWERS[0] <= size <= POWERS[-1]:
        return None
    low, high = next(pair for pair in pairwise(POWERS) if size <= pair[1])
    return of[low] + (of[high] - of[low]) * (size - low) / (high - low)


def by_size(rounds: Sequence[Sequence[float]]) -> Iterator[dict[str, Any]]:
    """The median over the rounds of each size's seconds, and of their ratio to the line in the same round."""
    for place, size in enumerate(SIZES):
        lines = [line(dict(zip(SIZES, times, strict=False)), size) for times in rounds]
        ratios = [times[place] / there for times, there in zip(rounds, lines, strict=True) if there]
        yield {
            "size": size,
            "seconds": median(times[place] for times in rounds),
            "ratio": median(ratios) if ratios else None,
        }


def by_kind(times: Sequence[float], kind: str) -> float:
    """The median over the sizes of a kind of their seconds in a round, to the line."""
    first, again = times[: len(SIZES)], times[len(SIZES) :]
    of = dict(zip(SIZES, first, strict=True))
    taken = dict(zip(POWERS, again, strict=True)) if kind == CONTROL else of
    return median(taken[size] / (line(of, size) or 0.0) for size in KINDS[kind])


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    groups = list(dict.fromkeys((row["precision"], row["name"]) for row in result["rows"]))
    of = {(row["precision"], row["name"], row["size"]): row for row in result["rows"]}
    kinds = {(row["precision"], row["name"], row["kind"]): row for row in result["kinds"]}
    rows = [(size, *(_shown(of[(*group, size)]) for group in groups)) for size in SIZES]
    rows += [(kind, *(shown_middle(kinds[(*group, kind)]) for group in groups)) for kind in KINDS]
    header = ("size", *(f"{name}, {precision}" for precision, name in groups))
    beyond = {
        kind: sum(kinds[(*group, kind)]["low"] > kinds[(*group, CONTROL)]["high"] for group in groups)
        for kind in (MULTIPLES, OTHERS)
    }
    return (
        f"{markdown(header, rows)}\n\n"
        f"Milliseconds of forward and backward of {result['texts']} texts of {result['tokens']} tokens, "
        f"{result['device']}; behind them the ratio to a straight line between the seconds at 64, 128 and 256, of "
        f"sizes that lie between. Medians of {result['rounds']} rounds; the last rows are medians over sizes, "
        "with the middle half of the rounds.\n\n"
        f"**Verdict: {_verdict(beyond, len(groups))}.** Multiples of 16 take {_told(result['kinds'], MULTIPLES)} times "
        f"as long as that line, other sizes {_told(result['kinds'], OTHERS)} times; powers of two timed again take "
        f"{_told(result['kinds'], CONTROL)} of their time, which is the noise. Multiples of 16 cost time beyond it in "
        f"{beyond[MULTIPLES]} of {len(groups)} columns, other sizes in {beyond[OTHERS]}."
    )


def _verdict(beyond: Mapping[str, int], groups: int) -> str:
    """A kind costs time where the middle half of its rounds lies above the control's in most columns."""
    if 2 * beyond[MULTIPLES] > groups:
        return "holds"
    return "holds only when the size is no multiple of 16" if 2 * beyond[OTHERS] > groups else "does not hold"


def _told(kinds: Sequence[Mapping[str, Any]], kind: str) -> str:
    found = sorted(row["median"] for row in kinds if row["kind"] == kind)
    return f"{found[0]:.2f} to {found[-1]:.2f}"


def _shown(row: Mapping[str, Any]) -> str:
    between = row["ratio"] and row["size"] not in POWERS
    return f"{1000 * row['seconds']:.2f}" + (f", {row['ratio']:.2f}" if between else "")


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
