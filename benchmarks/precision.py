"""`python -m benchmarks.precision`: texts/s of a training step in float32, in bfloat16 and compiled."""

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.common import device_name, make_batch, make_module, markdown, run_benchmark
from nlp_app.errors import run_command
from training.losses import Loss
from training.measure import Work, median_seconds
from training.recipe import Recipe
from training.step import GradientStep

CASES = {"short texts": (64, 16), "long texts": (64, 256)}
WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bf16": {"precision": "bf16"},
    "compiled": {"compile": True},
    "bf16, compiled": {"precision": "bf16", "compile": True},
}
ROUNDS = 7


def measure(device: torch.device) -> dict[str, Any]:
    """Seconds of forward and backward for each way and length, of the default model."""
    rows = []
    for name, (texts, tokens) in CASES.items():
        works = [_work(device, texts, tokens, values) for values in WAYS.values()]
        times = median_seconds(works, device, rounds=ROUNDS)
        rows += [
            {"texts": name, "tokens": tokens, "way": way, "texts_per_s": texts / seconds, "speed": times[0] / seconds}
            for way, seconds in zip(WAYS, times, strict=True)
        ]
    return {"device": device_name(device), "rows": rows}


def section(result: Mapping[str, Any]) -> str:
    """A table."""
    rows = [
        (row["texts"], row["tokens"], row["way"], f"{row['texts_per_s']:,.0f}", f"{row['speed']:.2f}")
        for row in result["rows"]
    ]
    header = ("", "tokens", "way", "texts/s", "speed, of float32")
    return f"{markdown(header, rows)}\n\nForward and backward of the default model, {result['device']}."


def _work(device: torch.device, texts: int, tokens: int, values: Mapping[str, Any]) -> Work:
    recipe = Recipe(
        epochs=1, patience=1, batch_size=texts, learning_rate=1e-3, weight_decay=0.0, token_dropout=0.1,
        average_decay=0.99, seed=0, loss=Loss(), **{"precision": "float32", **values},
    )  # fmt: skip
    step = GradientStep(module=make_module(device), recipe=recipe, device=device, say=print)
    input_ids, targets = make_batch(device, texts=texts, tokens=tokens)
    return lambda: step(input_ids, targets, seed=0)


def main() -> int:
    """Measure, print, write; gives the exit code."""
    return run_benchmark("precision", __doc__, measure, section)


if __name__ == "__main__":
    run_command(main)
