"""`python -m benchmarks.accuracy`: the defaults of training.run beside five peers, on every set of a folder.

A set is a folder NAME with train.csv.gz and test.csv.gz (or another format that training.run reads). By default a
fifth of each training file is taken for scoring and no test file is opened; `--split test` is for the record.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.peers import PEERS
from nlp_app.errors import DataError, run_command
from nlp_app.formats import FORMATS
from training.console import make_console, warn
from training.data import Examples, read_examples, split
from training.metrics import Confusion

OURS = "nlp_app"
SHARE = 0.2


def main() -> int:
    """Measure as the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    data = os.environ.get("NLP_APP_DATA")
    parser.add_argument(
        "--data", type=Path, default=data and Path(data), help="folder of sets (default: $NLP_APP_DATA)"
    )
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="what is scored")
    parser.add_argument("--sets", nargs="+", help="names of sets (default: all)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of ours, of which the mean is shown")
    parser.add_argument("--options", default="", help="options for training.run, to compare choices on validation")
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out")
    parser.add_argument("--output", type=Path, help="write every figure to this JSON file")
    options = parser.parse_args()
    if options.data is None:
        raise DataError("which sets? give --data FOLDER or set NLP_APP_DATA")
    rows = list(measure(options))
    print_table(rows, options.split)
    if options.output:
        options.output.write_text(json.dumps({"split": options.split, "rows": rows}, indent=2) + "\n")
    return 0


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each set and system."""
    console = make_console()
    names = options.sets or sorted(path.name for path in options.data.iterdir() if path.is_dir())
    for name in names:
        try:
            train, test = read_parts(options.data / name, options.split)
        except DataError as error:
            warn(console, f"{name} is left out: {error}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            for row in [*ours(train, test, Path(folder), options), *([] if options.no_peers else peers(train, test))]:
                yield {"set": name, **row}
                console.print(json.dumps({"set": name, **row}))


def read_parts(folder: Path, part: str) -> tuple[Examples, Examples]:
    """What to train on and what to score: for the validation split both from the training file alone."""
    train = read(find(folder, "train"))
    if part == "test":
        return train, read(find(folder, "test"))
    return split(train, share=SHARE, seed=0)


def read(path: Path) -> Examples:
    """The texts and labels of a file."""
    return read_examples(path, text_columns=["text"], label_column="label")


def find(folder: Path, part: str) -> Path:
    """The file of a part, of whatever format."""
    for suffix in FORMATS:
        for path in (folder / f"{part}{suffix}.gz", folder / f"{part}{suffix}"):
            if path.is_file():
                return path
    raise DataError(f"there is no {part} file in {folder}")


def ours(train: Examples, test: Examples, folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train with the defaults, in a process of its own, once a seed."""
    files = [write(folder / "train.csv", train), write(folder / "test.csv", test)]
    for seed in range(options.seeds):
        output = folder / f"model-{seed}"
        command = [
            "--train",
            files[0],
            "--test",
            files[1],
            "--output",
            output,
            "--seed",
            seed,
            *options.options.split(),
        ]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "training.run", *map(str, command)], check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.perf_counter() - started
        metrics = json.loads((output / "metrics.json").read_bytes())
        yield {
            "system": OURS,
            "seed": seed,
            "accuracy": metrics["test"]["accuracy"],
            "macro_f1": metrics["test"]["macro_f1"],
            "train_s": seconds,
            "predict_texts_per_s": metrics["test"]["texts_per_s"],
            "mb": sum(path.stat().st_size for path in output.iterdir()) / 1e6,
            "peak_memory_mb": metrics["peak_memory_mb"],
            "best_epoch": metrics["train"]["best_epoch"],
            "validation_accuracy": metrics["validation"]["accuracy"],
        }


def peers(train: Examples, test: Examples) -> Iterator[dict[str, Any]]:
    """Train and ask each peer, in this process."""
    labels = sorted({*train.labels, *test.labels})
    for name, fit in PEERS.items():
        started = time.perf_counter()
        predict = fit(train.texts, train.labels)
        fitted = time.perf_counter()
        confusion = Confusion.of(labels, test.labels, predict(test.texts))
        yield {
            "system": name,
            "accuracy": confusion.accuracy,
            "macro_f1": confusion.macro_f1,
            "train_s": fitted - started,
            "predict_texts_per_s": len(test) / (time.perf_counter() - fitted),
        }


def write(path: Path, examples: Examples) -> Path:
    """Examples as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(examples.texts, examples.labels, strict=True)])
    return path


def print_table(rows: list[dict[str, Any]], part: str) -> None:
    """Each system's score and seconds, and both as ratios to those of the set's best peer."""
    table = Table(
        "set", "system", f"{part} accuracy", "macro F1", "of best peer", "train s", "of its s", "predict texts/s"
    )
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name]
        peers_of_set = [row for row in of_set if row["system"] != OURS]
        best = max(peers_of_set, key=lambda row: row["accuracy"], default=None)
        for system in dict.fromkeys(row["system"] for row in of_set):
            same = [row for row in of_set if row["system"] == system]
            mean = {key: sum(row[key] for row in same) / len(same) for key in NUMBERS}
            ratios = [f"{mean[key] / best[key]:.3f}" if best else "" for key in ("accuracy", "train_s")]
            table.add_row(
                name, system, f"{100 * mean['accuracy']:.2f}", f"{100 * mean['macro_f1']:.2f}", ratios[0],
                f"{mean['train_s']:.1f}", ratios[1], f"{mean['predict_texts_per_s']:,.0f}",
            )  # fmt: skip
        table.add_section()
    make_console().print(table)


NUMBERS = ("accuracy", "macro_f1", "train_s", "predict_texts_per_s")

if __name__ == "__main__":
    run_command(main)
