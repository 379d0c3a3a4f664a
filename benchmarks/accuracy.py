"""`python -m benchmarks.accuracy`: the defaults of training.run beside five peers, on every set of a folder.

A set is a folder NAME with train.csv.gz and test.csv.gz (or another format that training.run reads). By default a
fifth of each training file is taken for scoring and no test file is opened; `--split test` is for the record.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.peers import PEERS, Answers
from nlp_app.checkpoint import load_checkpoint
from nlp_app.compiled import fastest
from nlp_app.encoding import encode
from nlp_app.errors import DataError, run_command
from nlp_app.formats import FORMATS
from nlp_app.model import TextClassifier
from nlp_app.ngrams import CHARACTERS, SHAPES, WORDS
from nlp_app.scoring import score, to_probabilities
from training.console import make_console, warn
from training.data import Examples, read_examples, split
from training.metrics import Confusion, LabelSets, Tally
from training.report import tally_of_examples

OURS = "nlp_app"
SHARE = 0.2


def main() -> int:
    """Measure as the command line says; gives the exit code."""
    parser = scored_sets("accuracy", __doc__)
    parser.add_argument("--sets", nargs="+", help="names of sets (default: all)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of ours, of which the mean is shown")
    parser.add_argument("--options", default="", help="options for training.run, to compare choices on validation")
    parser.add_argument("--parts", action="store_true", help="score ours again with each part left out")
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out")
    options = parsed(parser)
    rows = list(measure(options))
    print_table(rows, options.split)
    if options.parts:
        print_parts(rows)
    save(rows, options)
    return 0


def sets_of(name: str, about: str | None) -> argparse.ArgumentParser:
    """The command line of a benchmark that reads sets; parsed() reads it."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    data = os.environ.get("NLP_APP_DATA")
    parser.add_argument(
        "--data", type=Path, default=data and Path(data), help="folder of sets (default: $NLP_APP_DATA)"
    )
    return parser


def scored_sets(name: str, about: str | None) -> argparse.ArgumentParser:
    """The same for one that scores: of which part, and where to; save() writes that."""
    parser = sets_of(name, about)
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="what is scored")
    parser.add_argument("--output", type=Path, help="write every figure to this JSON file")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options.

    Raises:
        DataError: no folder of sets is given.
    """
    options = parser.parse_args()
    if options.data is None:
        raise DataError("which sets? give --data FOLDER or set NLP_APP_DATA")
    return options


def save(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Write the rows where the options say."""
    if options.output:
        options.output.write_text(json.dumps({"split": options.split, "rows": rows}, indent=2) + "\n")


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
            own = ours(
                train, test, Path(folder), seeds=options.seeds, options=options.options, with_parts=options.parts
            )
            for row in [*own, *([] if options.no_peers else peers(train, test))]:
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
    return read_examples(path, text_columns=["text"])


def find(folder: Path, part: str) -> Path:
    """The file of a part, of whatever format."""
    for suffix in FORMATS:
        for path in (folder / f"{part}{suffix}.gz", folder / f"{part}{suffix}"):
            if path.is_file():
                return path
    raise DataError(f"there is no {part} file in {folder}")


def ours(
    train: Examples, test: Examples, folder: Path, *, seeds: int = 1, options: str = "", with_parts: bool = False
) -> Iterator[dict[str, Any]]:
    """Train with the defaults, in a process of its own, once a seed; the models are model-0, model-1 … there."""
    files = {"--train": write(folder / "train.jsonl", train), "--test": write(folder / "test.jsonl", test)}
    for seed in range(seeds):
        output = folder / f"model-{seed}"
        flags = [part for pair in files.items() for part in pair] + ["--output", output, "--seed", seed]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "training.run", *map(str, flags), *options.split()],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - started
        metrics = json.loads((output / "metrics.json").read_bytes())
        yield {
            **({"parts": parts_left_out(output, test)} if with_parts else {}),
            "system": OURS,
            "seed": seed,
            **{name: metrics["test"][name] for name in (*SCORES, "intervals", "calibration_error", "brier_score")},
            "train_s": seconds,
            "predict_texts_per_s": metrics["test"]["texts_per_s"],
            "mb": sum(path.stat().st_size for path in output.iterdir()) / 1e6,
            "best_epoch": metrics["train"]["best_epoch"],
            "validation_accuracy": metrics["validation"]["accuracy"],
        }


def parts_left_out(folder: Path, test: Examples) -> dict[str, dict[str, float]]:
    """The scores where a part says of each text what it says on average; each label's threshold stays."""
    found, whole = {}, load_checkpoint(folder)
    encoded = encode(test.texts, tokenizer=whole.tokenizer, config=whole.config)
    full = score(fastest(whole.module), encoded)
    for name in LEFT_OUT:
        checkpoint = load_checkpoint(folder)
        leave_out(checkpoint.module, name)
        rest = score(fastest(checkpoint.module), encoded)
        logits = rest + (full - rest).mean(dim=0)
        probabilities = to_probabilities(logits, multi_label=checkpoint.config.multi_label)
        tally = tally_of_examples(checkpoint.config, probabilities, checkpoint.decision, test)
        found[name] = {measure: getattr(tally, measure) for measure in SCORES}
    return found


def leave_out(module: TextClassifier, name: str) -> None:
    """Make the weights of a part zero."""
    branch = module.ngrams
    assert branch is not None
    with torch.no_grad():
        if name == "convolution":
            module.output.weight.zero_()
        elif name == "n-grams":
            branch.weight.zero_()
            branch.bias.zero_()
        else:
            quarters = torch.arange(len(branch.rows)) >> (len(branch.rows).bit_length() - 3)
            branch.weight[branch.rows[torch.isin(quarters, torch.tensor(LEFT_OUT[name]))]] = 0


def peers(train: Examples, test: Examples) -> Iterator[dict[str, Any]]:
    """Train and ask each peer, in this process."""
    labels, several = sorted(train.label_counts.keys() | test.label_counts.keys()), train.multi_label
    for name, fit in PEERS.items():
        started = time.perf_counter()
        predict = fit(train.texts, train.label_lists, several=several)
        fitted = time.perf_counter()
        given = predict(test.texts)
        asked = time.perf_counter()
        tally = tally_of(labels, test, given)
        yield {
            "system": name,
            **{score: getattr(tally, score) for score in SCORES},
            "intervals": {score: tally.interval(score) for score in SCORES},
            "train_s": fitted - started,
            "predict_texts_per_s": len(test) / (asked - fitted),
        }


def tally_of(labels: Sequence[str], test: Examples, given: Answers) -> Tally:
    """What a peer's answers are worth."""
    if test.multi_label:
        return LabelSets.of(labels, test.label_lists, given)
    return Confusion.of(labels, *([label for (label,) in side] for side in (test.label_lists, given)))


def write(path: Path, examples: Examples) -> Path:
    """Examples as JSONL."""
    rows = zip(examples.texts, examples.labels, strict=True)
    path.write_text(
        "".join(json.dumps({"text": text, "label": labels}, ensure_ascii=False) + "\n" for text, labels in rows),
        encoding="utf-8",
    )
    return path


def print_table(rows: list[dict[str, Any]], part: str) -> None:
    """Each system's scores and seconds, and what they are of the set's best peer's."""
    table = Table("set", "system", f"{part} accuracy", "macro F1", "micro F1", "of best peer's", "train s",
                  "predict texts/s", "MB")  # fmt: skip
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name]
        peers_of_set = [row for row in of_set if row["system"] != OURS]
        best = {score: max((row[score] for row in peers_of_set), default=None) for score in SCORES}
        for system in dict.fromkeys(row["system"] for row in of_set):
            same = [row for row in of_set if row["system"] == system]
            mean = {key: sum(row[key] for row in same) / len(same) for key in NUMBERS}
            ratios = [f"{mean[score] / best[score]:.3f}" if best[score] else "" for score in SCORES]
            size = f"{sum(row['mb'] for row in same) / len(same):.1f}" if "mb" in same[0] else ""
            table.add_row(
                name, system, *(_shown(same, score, mean[score]) for score in SCORES), " / ".join(ratios),
                f"{mean['train_s']:.1f}", f"{mean['predict_texts_per_s']:,.0f}", size,
            )  # fmt: skip
        table.add_section()
    make_console().print(table)


def print_parts(rows: list[dict[str, Any]]) -> None:
    """What each part adds: by how many points the scores are lower without it."""
    table = Table("set", "without", *(f"{name} falls by" for name in SCORES))
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name and "parts" in row]
        for part in LEFT_OUT if of_set else ():
            falls = [sum(row[score] - row["parts"][part][score] for row in of_set) / len(of_set) for score in SCORES]
            table.add_row(name, part, *(f"{100 * fall:.2f}" for fall in falls))
        table.add_section()
    make_console().print(table)


def _shown(rows: Sequence[dict[str, Any]], score: str, mean: float) -> str:
    """The mean in percent, and the ends of the seeds' mean 95 % interval."""
    low, high = (100 * sum(row["intervals"][score][end] for row in rows) / len(rows) for end in (0, 1))
    return f"{100 * mean:.2f} ({low:.1f}-{high:.1f})"


LEFT_OUT: dict[str, tuple[int, ...]] = {
    "convolution": (),
    "n-grams": (),
    "n-grams of words": (WORDS, WORDS + 1),
    "n-grams of characters": (CHARACTERS,),
    "shapes": (SHAPES,),
}
"""Each part, and the quarters of the slots that it has."""
SCORES = ("accuracy", "macro_f1", "micro_f1")
NUMBERS = (*SCORES, "train_s", "predict_texts_per_s")

if __name__ == "__main__":
    run_command(main)
