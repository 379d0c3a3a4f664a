"""`python -m benchmarks.notes`: measures every sentence of the notes that this project grew from.

Writes docs/notes-measured.md, a section a claim, and its figures beside it. Three studies run on their own, since they
train for minutes, and are read from the folder of figures: `training.compare`, `benchmarks.stopping` and
`benchmarks.sharding_scores`. With `--device cuda` it measures what depends on the device, and writes
docs/notes-measured-cuda.md.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import (
    checkpointing,
    freezing,
    kept,
    loop,
    modules,
    precision,
    saving,
    sharding,
    sharding_scores,
    sizes,
    stopping,
)
from benchmarks.common import device_name
from nlp_app.device import find_device
from nlp_app.errors import DataError, run_command
from training import compare_report
from training.console import make_console

DOCS = Path(__file__).parent.parent / "docs"
STUDIES: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "compare.json": ("training.compare --output docs/measured", compare_report.section),
    "stopping.json": ("benchmarks.stopping --output docs/measured/stopping.json", stopping.section),
    "sharding-scores.json": (
        "benchmarks.sharding_scores --output docs/measured/sharding-scores.json", sharding_scores.section,
    ),
}  # fmt: skip
"""The file of a study, the command that writes it, and what renders it."""


class Claim(NamedTuple):
    """A sentence of the notes, or of the README, and what measures it."""

    title: str
    sentence: str
    benchmark: Any = None
    """A module with measure(device) and section(result)."""
    study: str = ""
    plots: tuple[tuple[str, str], ...] = ()
    """A file in docs/measured and what it shows."""


CLAIMS = (
    Claim(
        "Stopping",
        "Train until an optimal stop, looking at the progress of the last k iterations.",
        study="stopping.json",
        plots=(("stopping.png", "validation loss by epoch, and where the last 3 stop it"),),
    ),
    Claim(
        "Modules",
        "A network is a class derived from nn.Module; nn.Sequential applies modules one after another and back.",
        modules,
    ),
    Claim("Freezing", "If any weight requires a gradient, gradients are counted for all sets of weights.", freezing),
    Claim("Memory", "Everything is kept in the card's memory for backprop, which leads to lack of memory.", kept),
    Claim(
        "Sharding",
        "What does not fit: a smaller batch (sharding: split the batch into equal parts, run the net, join).",
        sharding,
        study="sharding-scores.json",
    ),
    Claim(
        "Gradient checkpoints",
        "Or gradient checkpoints: keep only some important points, recompute the rest; a third more time: forward + "
        "backward + forward.",
        checkpointing,
    ),
    Claim("Powers of two", "Layer sizes are powers of two, otherwise padding with zeros slows the model.", sizes),
    Claim(
        "Saving",
        "Saving the whole model works inside one notebook and is often a bad way; saving parameters only is the other.",
        saving,
    ),
    Claim(
        "Losses",
        "Cross-entropy = softmax + log at the end; negative log-likelihood.",
        study="compare.json",
        plots=(
            ("steps.png", "differences of the gradients by step"),
            ("scores.png", "scores of both losses"),
            ("classes.png", "time and memory by the number of classes"),
            ("extremes.png", "extreme logits"),
        ),
    ),
    Claim(
        "Precision",
        "Where epochs are long, `--precision bf16` and `--compile` make a step faster.",
        precision,
    ),
)
LOOP = "The loop"
"""No sentence, but a bar of its own."""
TITLES = (*(claim.title for claim in CLAIMS if claim.benchmark), LOOP)


def main() -> int:
    """Measure, render, write; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notes", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--render", action="store_true", help="write the page again from the figures that are there")
    parser.add_argument("--only", nargs="+", choices=TITLES, metavar="TITLE", help="measure these anew, keep the rest")
    options = parser.parse_args()
    device = find_device(options.device)
    suffix = "" if device.type == "cpu" else f"-{device.type}"
    figures = DOCS / "measured" / f"notes{suffix}.json"
    if not options.render:
        titles = options.only or TITLES
        if LOOP in titles:
            loop.data_folder()  # or it says what is missing, before minutes of measuring
        measured = measure(device, titles)
        if options.only:
            measured = joined(json.loads(figures.read_text()), measured)
        figures.write_text(json.dumps(measured, indent=2) + "\n")
    page = DOCS / f"notes-measured{suffix}.md"
    page.write_text(render(json.loads(figures.read_text()), studies() if device.type == "cpu" else {}))
    make_console().print(f"written: {page.relative_to(DOCS.parent)}")
    return 0


def measure(device: torch.device, titles: Sequence[str]) -> dict[str, Any]:
    """The figures of these benchmarks, by the title of the claim, and the seconds that they took."""
    started = time.perf_counter()
    console = make_console()
    found: dict[str, Any] = {}
    for claim in CLAIMS:
        if claim.title not in titles or claim.benchmark is None or (claim.benchmark is saving and device.type != "cpu"):
            continue
        found[claim.title] = claim.benchmark.measure(device)
        console.print(f"{claim.title}: measured, {time.perf_counter() - started:.0f} s so far")
    if LOOP in titles:
        found[LOOP] = loop.measure(device)
    return {"device": device_name(device), "seconds": time.perf_counter() - started, "figures": found}


def joined(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The old figures with the new ones in their places; no single run took the seconds of both.

    Raises:
        DataError: they are of two devices.
    """
    if old["device"] != new["device"]:
        raise DataError(f"the figures are of {old['device']}, not of {new['device']}: measure all, without --only")
    return {"device": new["device"], "seconds": None, "figures": {**old["figures"], **new["figures"]}}


def studies() -> dict[str, Any]:
    """The figures of the studies that run on their own, by file.

    Raises:
        DataError: one was not made.
    """
    found = {}
    for name, (command, _) in STUDIES.items():
        path = DOCS / "measured" / name
        if not path.is_file():
            raise DataError(f"there is no {path}: make it with python -m {command}")
        found[name] = json.loads(path.read_text())
    return found


def render(measured: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """The page: the same figures give the same page."""
    command = "python -m benchmarks.notes" + ("" if study else " --device cuda")
    took = f"in {measured['seconds']:.0f} s " if measured["seconds"] else "in several runs "
    parts = [
        "# The notes, measured",
        "Each sentence of the study notes that this project grew from, and one that its options of speed suggest "
        f"(Precision), what was measured, and a verdict. `{command}` "
        f"measured it {took}on {measured['device']}; times on it vary from run to run.",
    ]
    for claim in CLAIMS:
        parts += _section(claim, measured["figures"], study)
    told = "Training's own texts/s beside bare forward, backward and step (`python -m benchmarks.loop`)."
    found = measured["figures"].get(LOOP)
    parts += [f"## {LOOP}", told, loop.section(found) if found else _not_measured(LOOP)]
    return "\n\n".join(parts) + "\n"


def _section(claim: Claim, figures: Mapping[str, Any], study: Mapping[str, Any]) -> list[str]:
    shown = [claim.benchmark.section(figures[claim.title])] if claim.title in figures else []
    commands = [f"`python -m {claim.benchmark.__name__}`"] if claim.title in figures else []
    if claim.study in study:
        command, section = STUDIES[claim.study]
        shown.append(section(study[claim.study]))
        commands.append(f"`python -m {command}`")
        shown += [f"![{text}](measured/{name})" for name, text in claim.plots]
    if not shown and claim.benchmark and study:
        return [f"## {claim.title}", f"> {claim.sentence}", _not_measured(claim.title)]
    if not shown:
        return []
    return [f"## {claim.title}", f"> {claim.sentence}", "By " + " and ".join(commands) + ".", *shown]


def _not_measured(title: str) -> str:
    return f'Not measured yet: `python -m benchmarks.notes --only "{title}"`.'


if __name__ == "__main__":
    run_command(main)
