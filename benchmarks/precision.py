"""`python -m benchmarks.precision`: texts/s of a training step in float32, in bfloat16 and compiled."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch

from benchmarks.common import (
    device_name,
    make_batch,
    make_module,
    markdown,
    middle,
    rounds_of,
    run_benchmark,
    shown_middle,
)
from nlp_app.errors import run_command
from training.losses import Loss
from training.measure import Work
from training.recipe import Recipe
from training.step import GradientStep

CASES = {"short texts": (64, 16), "long texts": (64, 256)}
WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bf16": {"precision": "bf16"},
    "compiled": {"compile": True},
    "bf16, compiled": {"precision": "bf16", "compile": True},
    "float32, again": {},
}
CONTROL = "float32, again"
"""A module of its own: as far as its speed is from 1, speeds are noise."""
ROUNDS = 25


def measure(device: torch.device) -> dict[str, Any]:
    """texts/s of forward and backward for each way and length, of the default model, and the speed beside float32."""
    rows: list[dict[str, Any]] = []
    for name, (texts, tokens) in CASES.items():
        works = [_work(device, texts, tokens, values) for values in WAYS.values()]
        rounds = rounds_of(works, device, ROUNDS)
        for place, way in enumerate(WAYS):
            seconds = median(times[place] for times in rounds)
            speed = middle(times[0] / times[place] for times in rounds)
            rows.append({"texts": name, "tokens": tokens, "way": way, "texts_per_s": texts / seconds, **speed})
    return {"device": device_name(device), "rounds": ROUNDS, "rows": rows}


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    rows = [
        (row["texts"], row["tokens"], row["way"], f"{row['texts_per_s']:,.0f}", shown_middle(row))
        for row in result["rows"]
    ]
    header = ("", "tokens", "way", "texts/s", "speed, of float32")
    found = {way: _effects(result, way) for way in WAYS if way not in ("float32", CONTROL)}
    every = [effect for effects in found.values() for effect in effects]
    verdict = "holds" if set(every) == {"faster"} else "holds in part" if "faster" in every else "does not hold"
    return (
        f"{markdown(header, rows)}\n\n"
        f"Forward and backward of the default model, 64 texts, {result['device']}; medians of "
        f"{result['rounds']} rounds, with the middle half of them. The first calls, which compile, are not counted.\n\n"
        f"**Verdict: {verdict}** here. {'; '.join(_told(result, way, found[way]) for way in found)}. Faster and slower "
        "are called what lies beyond float32 timed again."
    )


def _effects(result: Mapping[str, Any], way: str) -> list[str]:
    """For each length whether the middle half of the rounds lies above or below the control's."""
    of = {(row["texts"], row["way"]): row for row in result["rows"]}
    return [
        "faster" if of[case, way]["low"] > of[case, CONTROL]["high"]
        else "slower" if of[case, way]["high"] < of[case, CONTROL]["low"] else "no different"
        for case in CASES
    ]  # fmt: skip


def _told(result: Mapping[str, Any], way: str, effects: Sequence[str]) -> str:
    speeds = {row["texts"]: row["median"] for row in result["rows"] if row["way"] == way}
    told = [f"{effect} on {case} ({speeds[case]:.2f})" for case, effect in zip(CASES, effects, strict=True)]
    return f"{way.replace(',', ' and')} is {', '.join(told)}"


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
