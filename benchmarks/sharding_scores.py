"""`python -m benchmarks.sharding_scores`: what BatchNorm over each part alone costs in score.

Validation scores of whole batches and of parts of 8 texts with `--sharding fast`, on one block and on a deep stack;
exact parts take the whole batch's updates, so they have its scores. No test file is opened.
"""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks.common import device_name, markdown
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
    rows = []
    for one in result["rows"]:
        cells = [
            f"{100 * mean(run['accuracy'] for run in one['runs'][way]):.2f} ± "
            f"{100 * stdev(run['accuracy'] for run in one['runs'][way]):.2f}, "
            f"{mean(run['loss'] for run in one['runs'][way]):.3f}"
            for way in ("whole", "fast")
        ]
        rows.append((one["set"], one["blocks"], *cells))
    header = ("set", "blocks", "whole batch or exact parts: accuracy in %, loss", f"fast parts of {result['size']}")
    return (
        f"{markdown(header, rows)}\n\n"
        f"Validation scores, mean and spread of {result['seeds']} seeds, batches of 64, {result['device']}."
    )


if __name__ == "__main__":
    run_command(main)
