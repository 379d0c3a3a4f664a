"""`python -m benchmarks.quantize`: what weights stored as int8 save in bytes and cost in score, on the same weights.

Each set is trained on once; that model is scored, then the one that training.quantize makes of it. By default a fifth
of the training file is taken for scoring and no test file is opened; `--split test` is for the record.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.accuracy import ours, parsed, read_parts, save, scored_sets
from nlp_app.checkpoint import load_checkpoint
from nlp_app.errors import run_command
from nlp_app.parts import MODEL
from nlp_app.quantize import KINDS
from training.console import make_console
from training.data import Examples
from training.report import test_scores

SETS = ("trec6", "mr", "banking77", "tweeteval-offensive")
SCORES = ("accuracy", "macro_f1")


def main() -> int:
    """Measure as the command line says; gives the exit code."""
    parser = scored_sets("quantize", __doc__)
    parser.add_argument("--sets", nargs="+", default=SETS, help="names of sets")
    options = parsed(parser)
    rows = list(measure(options))
    make_console().print(table(rows))
    save(rows, options)
    return 0


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each set."""
    for name in options.sets:
        train, scored = read_parts(options.data / name, options.split)
        with tempfile.TemporaryDirectory() as path:
            folder = Path(path)
            list(ours(train, scored, folder))
            folders = {"float32": folder / "model-0", "int8": folder / "small"}
            command = ["training.quantize", str(folders["float32"]), "--output", str(folders["int8"])]
            subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
            row = {"set": name, **{kind: scores(folders[kind], scored) for kind in KINDS}}
        make_console().print(json.dumps(row))
        yield row


def scores(folder: Path, scored: Examples) -> dict[str, Any]:
    """The bytes and the scores of a checkpoint."""
    checkpoint = load_checkpoint(folder)
    found, _ = test_scores(checkpoint.module, checkpoint.tokenizer, checkpoint.decision, scored)
    return {"bytes": (folder / MODEL).stat().st_size, **{score: found[score] for score in SCORES}}


def table(rows: list[dict[str, Any]]) -> Table:
    """Bytes, their ratio, and the scores in % with what int8 adds to them."""
    shown = Table("set", "float32 bytes", "int8 bytes", "ratio", "accuracy", "change", "macro F1", "change")
    for row in rows:
        before, after = row["float32"], row["int8"]
        changes = [(f"{100 * before[score]:.2f}", f"{100 * (after[score] - before[score]):+.2f}") for score in SCORES]
        sizes = (f"{before['bytes']:,}", f"{after['bytes']:,}", f"{after['bytes'] / before['bytes']:.3f}")
        shown.add_row(row["set"], *sizes, *(cell for change in changes for cell in change))
    return shown


if __name__ == "__main__":
    run_command(main)
