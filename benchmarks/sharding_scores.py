"""`python -m benchmarks.sharding_scores`: what BatchNorm over each part alone costs in score.

Validation scores of whole batches and of parts of 8 texts with `--sharding fast`, on one block and on a deep stack;
exact parts take the whole batch's updates, so they have its scores. No test file is opened.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.common import device_name, markdown, spread
from nlp_app.errors import DataError, run_command
from training.compare_runs import selected
from training.console import make_console
from training.options import Options

SIZE = 8
DEPTHS = (1, 4)


def main() -> int:
    """Train, print, write; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharding_scores", description=__doc__)
    parser.add_argument("--sets", nargs="+", default=["trec6"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write every figure to this JSON file")
    options = parser.parse_args()
    folder = os.environ.get("NLP_APP_DATA")
    if not folder:
        raise DataError("which sets? set NLP_APP_DATA to their folder")
    rows = [
        row(Path(folder) / name / "train.csv.gz", name, blocks, options.seeds)
        for name in options.sets
        for blocks in DEPTHS
    ]
    result = {"device": device_name(torch.device("cpu")), "seeds": options.seeds, "size": SIZE, "rows": rows}
    make_console().print(section(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def row(path: Path, name: str, blocks: int, seeds: int) -> dict[str, Any]:
    """The scores of each seed, whole and in parts."""
    ways: dict[str, dict[str, Any]] = {"whole": {}, "fast": {"micro_batch_size": SIZE, "sharding": "fast"}}
    runs = {
        way: [
            selected(Options(train=path, seed=seed, num_blocks=blocks, refit="never", **values))[0]
            for seed in range(seeds)
        ]
        for way, values in ways.items()
    }
    return {"set": name, "blocks": blocks, "runs": runs}


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    rows = [
        (one["set"], one["blocks"], *(_cell(one["runs"][way]) for way in ("whole", "fast")),
         f"{100 * mean(_differences(one)):+.2f} ± {100 * spread(_differences(one)):.2f}")
        for one in result["rows"]
    ]  # fmt: skip
    header = ("set", "blocks", "whole batch or exact parts: accuracy in %, loss", f"fast parts of {result['size']}",
              "difference of accuracy")  # fmt: skip
    return (
        f"{markdown(header, rows)}\n\n"
        f"Validation scores, mean and spread of {result['seeds']} seeds, batches of 64, {result['device']}; the "
        "differences are those of runs with the same seed.\n\n"
        f"Fast parts change the accuracy by {', by '.join(map(_told, result['rows']))}."
    )


def _told(one: Mapping[str, Any]) -> str:
    """The mean difference beside the scale of noise: the spread of the scores over the seeds."""
    scale = max(spread(_accuracies(runs)) for runs in one["runs"].values())
    off = mean(_differences(one))
    place = "within" if abs(off) <= scale else "beyond"
    return (
        f"{100 * off:+.2f} points on {one['set']} with {one['blocks']} block{'s' * (one['blocks'] > 1)}, {place} the "
        f"scores' spread over the seeds ({100 * scale:.2f})"
    )


def _differences(one: Mapping[str, Any]) -> list[float]:
    return [
        fast - whole for fast, whole in zip(*(_accuracies(one["runs"][way]) for way in ("fast", "whole")), strict=True)
    ]


def _accuracies(runs: Sequence[Mapping[str, float]]) -> list[float]:
    return [run["accuracy"] for run in runs]


def _cell(runs: Sequence[Mapping[str, float]]) -> str:
    found = _accuracies(runs)
    return f"{100 * mean(found):.2f} ± {100 * spread(found):.2f}, {mean(run['loss'] for run in runs):.3f}"


if __name__ == "__main__":
    run_command(main)
