"""`python -m benchmarks.out_of_scope`: the defaults on one set, asked about texts of its own kind and of others.

By default a fifth of the set's training file is asked about, and the others' training files; no test file is opened.
`--split test` is for the record.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.accuracy import find, ours, parsed, read, read_parts, save, scored_sets
from nlp_app import Predictor
from nlp_app.checkpoint import Checkpoint
from nlp_app.errors import run_command
from nlp_app.scoring import familiarity
from training.console import make_console


def main() -> int:
    """Measure as the command line says; gives the exit code."""
    parser = scored_sets("out_of_scope", __doc__)
    parser.add_argument("--set", default="banking77", help="name of the set that is trained on")
    parser.add_argument("--strangers", nargs="+", default=["trec6"], help="names of sets that are out of its scope")
    parser.add_argument("--seeds", type=int, default=1, help="runs")
    parser.add_argument("--options", default="", help="options for training.run, to compare choices on validation")
    options = parsed(parser)
    rows = measure(options)
    print_table(rows, options.split)
    save(rows, options)
    return 0


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each seed and each set that is asked about."""
    train, real = read_parts(options.data / options.set, options.split)
    part = "test" if options.split == "test" else "train"
    asked = {options.set: real.texts}
    asked |= {name: read(find(options.data / name, part)).texts for name in options.strangers}
    with tempfile.TemporaryDirectory() as folder:
        seeds = [row["seed"] for row in ours(train, real, Path(folder), seeds=options.seeds, options=options.options)]
        predictors = [Predictor.load(Path(folder) / f"model-{seed}") for seed in seeds]
    return [
        {"seed": seed, "set": name, **flagged(predictor, texts)}
        for seed, predictor in zip(seeds, predictors, strict=True)
        for name, texts in asked.items()
    ]


def flagged(predictor: Predictor, texts: list[str]) -> dict[str, Any]:
    """How many of the texts are called out of scope, and what asking for it takes of the time of a prediction."""
    started = time.perf_counter()
    predictions = predictor.predict(texts)
    seconds = time.perf_counter() - started
    checkpoint = predictor.checkpoint
    assert isinstance(checkpoint, Checkpoint)
    encoded = predictor.encode(texts)
    started = time.perf_counter()
    familiarity(checkpoint.module, encoded)
    return {
        "texts": len(texts),
        "out_of_scope": sum(one.out_of_scope for one in predictions) / len(texts),
        "min_familiarity": predictor.checkpoint.decision.min_familiarity,
        "share_of_time": (time.perf_counter() - started) / seconds,
    }


def print_table(rows: list[dict[str, Any]], part: str) -> None:
    """The shares; the first set is the one that was trained on."""
    table = Table("seed", f"{part} texts of", "texts", "called out of scope", "threshold", "of prediction time")
    for row in rows:
        table.add_row(
            str(row["seed"]),
            row["set"],
            f"{row['texts']:,}",
            f"{row['out_of_scope']:.1%}",
            f"{row['min_familiarity']:.3f}",
            f"{row['share_of_time']:.1%}",
        )
    make_console().print(table)


if __name__ == "__main__":
    run_command(main)
