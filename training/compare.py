"""`python -m training.compare`: cross-entropy of logits beside negative log-likelihood of their log-softmax.

Both train from the same start on the same batches. On the sets of a folder, each with its train.csv.gz, or another
format that training.run reads; on the sample set where there is no folder. No test file is opened.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from nlp_app.errors import ConfigError, DataError, OutputError, quit_at_once, run_command

if __name__ == "__main__":
    quit_at_once()

import torch

from nlp_app.device import find_device
from nlp_app.folder import write_file, writing
from nlp_app.formats import FORMATS
from training import compare_plots
from training.compare_classes import by_classes, extremes
from training.compare_report import tables
from training.compare_runs import scores, steps
from training.console import make_console
from training.options import SAMPLE, Options
from training.prepare import read_parts
from training.report import versions
from training.together import alone
from training.writable import check_outside

RESULT = "compare.json"


def main() -> int:
    """Compare as the command line says; gives the exit code."""
    alone("training.compare")
    arguments = _arguments()
    device = find_device(arguments.device)
    _check(arguments)
    files = _files(arguments)
    for path in files.values():
        train, *_ = read_parts(Options(train=path))  # or the last one's fault would be told after minutes of the others
        if train.multi_label:
            raise DataError(
                f"{path} has lists of labels, but the losses compared are of one label a text: leave it out"
            )
    with writing(arguments.output):
        arguments.output.mkdir(parents=True, exist_ok=True)
    result = _measure(arguments, files, device)
    console = make_console()
    for table in tables(result):
        console.print(table)
    _write(result, arguments.output)
    console.print(f"figures and plots are in {arguments.output}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    for name, value, least in (
        ("seeds", arguments.seeds, 1), ("steps", arguments.steps, 1), ("classes", min(arguments.classes), 2)
    ):  # fmt: skip
        if value < least:
            raise ConfigError(f"--{name} is {value}, but must be {least} or more")
    Options(epochs=arguments.epochs)  # or it says what is wrong
    if arguments.output.exists() and not arguments.output.is_dir():
        raise OutputError(f"--output {arguments.output} is a file: name a folder")
    check_outside("--output", arguments.output / RESULT)


def _measure(arguments: argparse.Namespace, files: dict[str, Path], device: torch.device) -> dict[str, Any]:
    first, path = next(iter(files.items()))
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "seeds": arguments.seeds,
        "epochs": arguments.epochs,
        "sets": list(files),
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "steps": steps(path, device, count=arguments.steps),
        "steps_of": first,
        "scores": scores(files, device, seeds=arguments.seeds, epochs=arguments.epochs, console=make_console()),
        "classes": by_classes(device, arguments.classes),
        "extremes": extremes(device),
    }


def _write(result: dict[str, Any], output: Path) -> None:
    """The plots, then the figures: each file whole or absent."""
    with tempfile.TemporaryDirectory() as folder:
        compare_plots.draw(result, Path(folder))
        for plot in sorted(Path(folder).iterdir()):
            write_file(output / plot.name, plot.read_bytes())
    write_file(output / RESULT, (json.dumps(result, indent=2) + "\n").encode())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.compare", description=__doc__)
    data = os.environ.get("NLP_APP_DATA")
    parser.add_argument(
        "--data", type=Path, default=data and Path(data), help="folder of sets (default: $NLP_APP_DATA)"
    )
    parser.add_argument("--sets", nargs="+", default=["trec6", "mr", "banking77"], help="names of sets in the folder")
    parser.add_argument("--train", type=Path, nargs="+", help="files of labelled texts, in place of sets")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each loss on each set (default: 5)")
    parser.add_argument("--steps", type=int, default=100, help="steps whose differences are told (default: 100)")
    parser.add_argument("--epochs", type=int, help="at most (default: as training.run)")
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 100, 10_000, 100_000], help="for time and memory")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda …")
    parser.add_argument(
        "--output", type=Path, default=Path("compare"), help="folder for the figures (default: compare)"
    )
    return parser.parse_args(sys.argv[1:])


def _files(arguments: argparse.Namespace) -> dict[str, Path]:
    """The training file of each set, by name."""
    if arguments.train:
        alone = len({path.name for path in arguments.train}) == len(arguments.train)
        files = {path.name if alone else str(path): path for path in arguments.train}
    elif arguments.data:
        files = {name: _train_file(arguments.data / name) for name in arguments.sets}
    else:
        files = {"the sample set": SAMPLE / "train.csv"}
    for path in files.values():
        if not path.is_file():
            raise DataError(
                f"there is no file {path}: name sets with --sets, their folder with --data, or files with --train"
            )
    return files


def _train_file(folder: Path) -> Path:
    """The training file of a set, of whatever format; where there is none, the one to ask for."""
    places = [folder / f"train{suffix}{packed}" for suffix in FORMATS for packed in (".gz", "")]
    return next((path for path in places if path.is_file()), places[0])


if __name__ == "__main__":
    run_command(main)
