"""`python -m benchmarks.kept`: what is kept in memory for the backward pass, and what makes it more."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import device_name, make_batch, make_module, markdown, run_benchmark
from nlp_app.errors import run_command
from training.losses import Loss
from training.measure import Work, peak_bytes
from training.sharding import backward_whole

CASES = ((1, 16), (1, 32), (1, 64), (2, 32), (4, 32), (8, 32))
"""Blocks, and texts of 64 tokens in a batch."""


def measure(device: torch.device) -> dict[str, Any]:
    """Peak of a training step and of scoring, and the bytes that autograd keeps between forward and backward."""
    rows = []
    for blocks, texts in CASES:
        module = make_module(device, num_blocks=blocks, vocab_size=1000, dropout=0.0)
        input_ids, targets = make_batch(device, texts=texts, tokens=64, vocab_size=1000)

        def train(module: Any = module, input_ids: Tensor = input_ids, targets: Tensor = targets) -> None:
            backward_whole(module, Loss(), input_ids, targets)
            module.zero_grad(set_to_none=True)

        def score(module: Any = module, input_ids: Tensor = input_ids) -> None:
            with torch.inference_mode():
                module(input_ids)

        kept = _kept(module, input_ids)
        train()
        training, scoring = (peak_bytes(work, device) / 1e6 for work in (train, _evaluated(module, score)))
        rows.append(
            {"blocks": blocks, "texts": texts, "train_mb": training, "score_mb": scoring, "kept_mb": kept / 1e6}
        )
    return {"device": device_name(device), "rows": rows}


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    rows = [
        (row["blocks"], row["texts"], f"{row['kept_mb']:.1f}", f"{row['train_mb']:.1f}", f"{row['score_mb']:.1f}")
        for row in result["rows"]
    ]
    of = {(row["blocks"], row["texts"]): row for row in result["rows"]}
    by_texts = of[(1, 64)]["kept_mb"] / of[(1, 16)]["kept_mb"]
    by_blocks = of[(8, 32)]["kept_mb"] / of[(1, 32)]["kept_mb"]
    scoring = of[(8, 32)]["score_mb"] / of[(8, 32)]["train_mb"]
    holds = by_texts > 3.5 and by_blocks > 4 and scoring < 0.5
    header = ("blocks", "texts", "kept for backward, MB", "peak of a step, MB", "peak of scoring, MB")
    share = f"{scoring:.2f}" if scoring >= 0.01 else "less than 0.01"
    extra = "" if "CPU" in result["device"] else ", with the work space that cuDNN takes for a step"
    return (
        f"{markdown(header, rows)}\n\n"
        f"Texts of 64 tokens, {result['device']}; without the weights{extra}.\n\n"
        f"**Verdict: {'holds' if holds else 'does not hold'}.** Four times the texts keep {by_texts:.1f} times as "
        f"much, eight times the blocks {by_blocks:.1f} times; scoring the same batch, which keeps nothing, takes "
        f"{share} of the memory. It is not special to a card: on a CPU it is the machine's memory."
    )


def _kept(module: torch.nn.Module, input_ids: Tensor) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(input_ids)  # held until what it keeps was counted
    total = sum(size for place, size in kept.items() if place not in weights)
    del output
    return total


def _evaluated(module: torch.nn.Module, work: Work) -> Work:
    def evaluated() -> None:
        module.eval()
        work()
        module.train()

    return evaluated


def main() -> int:
    """Measure, print, write; gives the exit code."""
    return run_benchmark("kept", __doc__, measure, section)


if __name__ == "__main__":
    run_command(main)
