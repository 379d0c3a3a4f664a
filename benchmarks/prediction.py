"""`python -m benchmarks.prediction`: what a text costs to label, on one core, beside the strongest peer.

The defaults are trained on a set, unless --checkpoint names a model of it; then its training texts are labelled in
batches, text to label, encoding included. The peer is TF-IDF of words and characters with a LinearSVC, asked for the
same texts at once, which is its fastest. Each figure is the median of several passes, ours and the peer's in turn.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch
from rich.table import Table

from benchmarks.accuracy import find, parsed, read, sets_of
from benchmarks.peers import PEERS
from nlp_app.errors import run_command
from nlp_app.predictor import Predictor
from training.console import make_console

PEER = "tfidf word(1,2)+char_wb(2,5)+LinearSVC"
TEXTS = 3200
PASSES = 5


def main() -> int:
    """Measure as the command line says; gives the exit code."""
    parser = sets_of("prediction", __doc__)
    parser.add_argument("--set", default="banking77", help="name of the set")
    parser.add_argument("--checkpoint", type=Path, help="a model of the set, in place of training one")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32, 1024], help="texts in a call")
    options = parsed(parser)
    path = find(options.data / options.set, "train")
    checkpoint = options.checkpoint or trained(path)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # every library's threads, the tokenizer's too
    torch.set_num_threads(1)
    examples, predictor = read(path), Predictor.load(checkpoint)
    asked = examples.texts[:TEXTS]
    peer = PEERS[PEER](examples.texts, examples.label_lists, several=examples.multi_label)
    ways: dict[str, Callable[[], object]] = {
        f"ours, {size:,} at once": partial(in_batches, predictor, asked, size) for size in options.batch_sizes
    }
    print_table(options.set, len(asked), seconds({**ways, PEER: partial(peer, asked)}))
    return 0


def trained(path: Path) -> Path:
    """The defaults' model of a file, with all cores."""
    output = Path(tempfile.mkdtemp()) / "model"
    command = [sys.executable, "-m", "training.run", "--train", path, "--output", output]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return output


def in_batches(predictor: Predictor, texts: Sequence[str], size: int) -> None:
    """Label texts, so many in a call."""
    for start in range(0, len(texts), size):
        predictor.predict(texts[start : start + size])


def seconds(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median of each way's passes, taken in turn; the first pass warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(PASSES + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            if number:
                taken[name].append(time.perf_counter() - begun)
    return {name: median(each) for name, each in taken.items()}


def print_table(name: str, texts: int, taken: dict[str, float]) -> None:
    """Microseconds a text, texts a second, and the ratio to the peer's."""
    table = Table(f"{name}, one core", "us a text", "texts/s", "of the peer's")
    for way, each in taken.items():
        table.add_row(way, f"{1e6 * each / texts:.1f}", f"{texts / each:,.0f}", f"{taken[PEER] / each:.2f}")
    make_console().print(table)


if __name__ == "__main__":
    run_command(main)
