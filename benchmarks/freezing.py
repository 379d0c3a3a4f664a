"""`python -m benchmarks.freezing`: which gradients autograd computes and keeps when some weights are frozen."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.common import device_name, make_batch, make_module, markdown, run_benchmark
from nlp_app.errors import run_command
from nlp_app.model import TextClassifier
from training.losses import Loss
from training.measure import Work, median_seconds, peak_bytes
from training.sharding import backward_whole

FROZEN: tuple[tuple[str, ...], ...] = ((), ("embedding",), ("embedding", "blocks"), ("blocks", "output"))
ROUNDS = 5


def measure(device: torch.device) -> dict[str, Any]:
    """Gradients, kept bytes, peak and seconds of forward and backward, for each choice of frozen parts."""
    modules = [_frozen(device, names) for names in FROZEN]
    works = [_work(module, device) for module in modules]
    times = median_seconds(works, device, rounds=ROUNDS)
    peaks = [peak_bytes(work, device) for work in works]
    rows: list[dict[str, Any]] = []
    for names, module, seconds, peak in zip(FROZEN, modules, times, peaks, strict=True):
        works[len(rows)]()
        have = sorted({name.split(".")[0] for name, one in module.named_parameters() if one.grad is not None})
        rows.append(
            {"frozen": list(names), "gradients": have, "mb": peak / 1e6, "memory": peak / peaks[0],
             "seconds": seconds, "time": seconds / times[0]}
        )  # fmt: skip
    return {"device": device_name(device), "rows": rows}


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    header = ("frozen", "gradients are stored for", "peak MB", "memory, of all trained", "time, of all trained")
    rows = [
        (
            _shown(row["frozen"]),
            _shown(row["gradients"]),
            f"{row['mb']:.0f}",
            f"{row['memory']:.2f}",
            f"{row['time']:.2f}",
        )
        for row in result["rows"]
    ]
    _, embedding, head, bottom = result["rows"]
    wrong = sorted({name for row in result["rows"] for name in set(row["frozen"]) & set(row["gradients"])})
    verdict = f"holds** for {_shown(wrong)}" if wrong else "does not hold** as it is written"
    stored = (
        f"Gradients are stored for frozen weights too ({_shown(wrong)})"
        if wrong
        else "Gradients are stored for the weights that require one and for no other"
    )
    way = (
        "What is true in it: the backward pass must still go through all that lies above the lowest trained weight; "
        if bottom["time"] > 2 * head["time"]
        else "Nor does the backward pass cost more for going through frozen weights: "
    )
    return (
        f"{markdown(header, rows)}\n\n"
        f"The default model on 64 texts of 512 tokens, {result['device']}; forward and backward.\n\n"
        f"**Verdict: {verdict}. {stored}: with the embedding frozen a step takes {embedding['time']:.2f} of the time "
        f"and {embedding['memory']:.2f} of the memory, with all but the output layer frozen {head['time']:.2f} and "
        f"{head['memory']:.2f}. {way}with only the embedding trained it takes {bottom['time']:.2f} of the time."
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _frozen(device: torch.device, names: Sequence[str]) -> TextClassifier:
    module = make_module(device, dropout=0.0)
    for name in names:
        module.get_submodule(name).requires_grad_(False)
    return module


def _work(module: TextClassifier, device: torch.device) -> Work:
    input_ids, targets = make_batch(device)

    def work() -> None:
        module.zero_grad(set_to_none=True)
        backward_whole(module, Loss(), input_ids, targets)

    return work


def main() -> int:
    """Measure, print, write; gives the exit code."""
    return run_benchmark("freezing", __doc__, measure, section)


if __name__ == "__main__":
    run_command(main)
