"""`python -m benchmarks.few_texts`: the defaults of training.run beside five peers, given a few texts of each class.

The texts are drawn from the training file, the same for all. By default a fifth of that file is taken for scoring and
no test file is opened; `--split test` is for the record.
"""

import argparse
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from rich.table import Table

from benchmarks.accuracy import OURS, ours, parsed, peers, read_parts, save, scored_sets
from benchmarks.common import spread
from benchmarks.peers import PEERS
from nlp_app.errors import run_command
from training.console import make_console
from training.data import Examples

SETS = ("trec6", "banking77")


def main() -> int:
    """Measure as the command line says; gives the exit code."""
    parser = scored_sets("few_texts", __doc__)
    parser.add_argument("--sets", nargs="+", default=SETS, help="names of sets")
    parser.add_argument("--texts", nargs="+", type=int, default=[8, 16, 64], help="texts of each class")
    parser.add_argument("--draws", type=int, default=3, help="times that texts are drawn")
    parser.add_argument("--options", default="", help="options for training.run, to compare choices on validation")
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out")
    options = parsed(parser)
    rows = list(measure(options))
    make_console().print(table(rows, options.split))
    save(rows, options)
    return 0


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each set, number of texts, draw and system."""
    console = make_console()
    for name in options.sets:
        train, test = read_parts(options.data / name, options.split)
        for texts in options.texts:
            for draw in range(options.draws):
                drawn = few(train, texts, draw)
                with tempfile.TemporaryDirectory() as folder:
                    asked = [] if options.no_peers else peers(drawn, test)
                    for row in [*ours(drawn, test, Path(folder), options=options.options), *asked]:
                        yield {"set": name, "texts": texts, "draw": draw, **row}
                        console.print(json.dumps({"set": name, "texts": texts, "draw": draw, **row}))


def few(examples: Examples, texts: int, draw: int) -> Examples:
    """So many texts of each class, or all that it has, in the order of the file; the same draw gives the same texts."""
    by_label: dict[str, list[int]] = defaultdict(list)
    for row, (label,) in enumerate(examples.label_lists):
        by_label[label].append(row)
    chance = random.Random(draw)
    drawn = [chance.sample(by_label[label], min(texts, len(by_label[label]))) for label in sorted(by_label)]
    return examples.take(sorted(row for rows in drawn for row in rows))


def table(rows: list[dict[str, Any]], part: str) -> Table:
    """The mean accuracy of each system over the draws in %, with its standard deviation."""
    systems = [OURS, *PEERS] if any(row["system"] != OURS for row in rows) else [OURS]
    shown = Table("set", "texts a class", *systems, "ours less best peer", title=f"{part} accuracy in %")
    for name, texts in dict.fromkeys((row["set"], row["texts"]) for row in rows):
        of_place = [row for row in rows if (row["set"], row["texts"]) == (name, texts)]
        found = {system: [100 * row["accuracy"] for row in of_place if row["system"] == system] for system in systems}
        best = max((mean(found[system]) for system in systems[1:]), default=None)
        less = "" if best is None else f"{mean(found[OURS]) - best:+.1f}"
        shown.add_row(name, str(texts), *(f"{mean(one):.1f} ± {spread(one):.1f}" for one in found.values()), less)
    return shown


if __name__ == "__main__":
    run_command(main)
