"""`python -m benchmarks.sharding`: a batch in parts, beside the whole one: memory, time, and the gradient's error."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import device_name, make_batch, make_module, markdown, run_benchmark
from nlp_app.errors import run_command
from nlp_app.model import TextClassifier
from training.exact import backward_exact
from training.losses import Loss
from training.measure import Work, median_seconds, peak_bytes
from training.sharding import Parts, backward_fast, backward_whole, split

MODES = ("whole", "fast", "exact")
CASES = ((1, 512), (4, 64), (8, 64))
"""Blocks, and tokens of each of the 64 texts; the first is the default model at its longest."""
PARTS = 8
ROUNDS = 5


def measure(device: torch.device) -> dict[str, Any]:
    """Peak, seconds and the error of the gradient, of each mode."""
    rows = []
    for blocks, tokens in CASES:
        module = make_module(device, num_blocks=blocks, vocab_size=30_000 if blocks == 1 else 3000)
        batch = make_batch(device, tokens=tokens, vocab_size=module.config.vocab_size)
        works = [make_work(module, batch, mode) for mode in MODES]
        times = median_seconds(works, device, rounds=ROUNDS)
        peaks = [peak_bytes(work, device) for work in works]
        errors = _errors(blocks, device)
        rows += [
            {"blocks": blocks, "tokens": tokens, "mode": mode, "mb": peak / 1e6, "memory": peak / peaks[0],
             "seconds": seconds, "time": seconds / times[0], "gradient_error": errors[mode]}
            for mode, peak, seconds in zip(MODES, peaks, times, strict=True)
        ]  # fmt: skip
    return {"device": device_name(device), "parts": PARTS, "rows": rows}


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    header = ("blocks", "tokens", "mode", "peak MB", "memory, of whole", "time, of whole", "gradient's error")
    rows = [
        (row["blocks"], row["tokens"], row["mode"], f"{row['mb']:.0f}", f"{row['memory']:.2f}", f"{row['time']:.2f}",
         f"{row['gradient_error']:.0e}")
        for row in result["rows"]
    ]  # fmt: skip
    exact = [row for row in result["rows"] if row["mode"] == "exact"]
    wrong = [row["gradient_error"] for row in result["rows"] if row["mode"] == "fast"]
    right = max(row["gradient_error"] for row in exact) < 1e-6 < min(wrong)
    verdict = "holds only when BatchNorm is told of the whole batch" if right else "does not hold"
    costs = ", ".join(f"{row['time']:.1f} with {row['blocks']}" for row in exact)
    return (
        f"{markdown(header, rows)}\n\n"
        f"64 texts in {result['parts']} parts, {result['device']}; the gradient's error is that of the convolutions, "
        "in "
        "float64, relative to its norm.\n\n"
        f'**Verdict: {verdict}.** "Run the net on equal parts and join" gives another update than the whole batch '
        "where "
        f"each part is normalised by its own statistics: the convolutions' gradient is off by {min(wrong):.0%} to "
        f"{max(wrong):.0%} of its norm (`--sharding fast`). With the mean and variance of the whole batch and the "
        "gradient "
        f"through them it is the same (`--sharding exact`, the default), for {costs} blocks times the seconds."
    )


def make_work(module: TextClassifier, batch: tuple[Tensor, Tensor], mode: str) -> Work:
    """Forward and backward of the batch in one of MODES."""

    def work() -> None:
        run(module, batch, mode)
        module.zero_grad(set_to_none=True)

    return work


def run(module: TextClassifier, batch: tuple[Tensor, Tensor], mode: str) -> float:
    """Put the gradient on the module's parameters."""
    input_ids, targets = batch
    if mode == "whole":
        return backward_whole(module, Loss(), input_ids, targets)
    slices = split(len(input_ids), -(-len(input_ids) // PARTS))
    parts = Parts(module=module, loss=Loss(), input_ids=input_ids, targets=targets, slices=slices)
    return backward_fast(parts) if mode == "fast" else backward_exact(parts)


def _errors(blocks: int, device: torch.device) -> dict[str, float]:
    """The largest error of a convolution's gradient, relative to its norm, in float64."""
    module = make_module(device, vocab_size=500, num_blocks=blocks, dropout=0.0).double()
    batch = make_batch(device, tokens=16, vocab_size=500)
    gradients = {}
    for mode in MODES:
        twin = copy.deepcopy(module)
        run(twin, batch, mode)
        gradients[mode] = [part.weight.grad for part in twin.modules() if isinstance(part, nn.Conv1d)]
    return {mode: max(map(_distance, gradients[mode], gradients["whole"])) for mode in MODES}


def _distance(one: Tensor | None, other: Tensor | None) -> float:
    assert one is not None
    assert other is not None
    return float((one - other).norm() / other.norm())


def main() -> int:
    """Measure, print, write; gives the exit code."""
    return run_benchmark("sharding", __doc__, measure, section)


if __name__ == "__main__":
    run_command(main)
