"""`python -m benchmarks.serving`: what the server does on one core, beside an endpoint that computes nothing.

Servers have a core of their own, what asks them another. The no-op is FastAPI with our shapes and nothing behind them.
Each figure is the median of three rounds, ours and the peer's in turn, and each has a bar that it should keep. With
--output the figures are written there, and two plots beside that file.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common import markdown, rounded
from benchmarks.load_wrk import has_wrk
from benchmarks.processes import end_by_signal
from benchmarks.serving_figures import ROUNDS, Figure
from benchmarks.serving_lab import LOAD_CORE, SERVER_CORE, Lab, make_lab
from benchmarks.serving_offered import Found
from benchmarks.serving_overload import reviews
from benchmarks.serving_peers import against_litserve, against_noop
from benchmarks.serving_plots import draw
from benchmarks.serving_process import memory, start
from benchmarks.serving_stream import streamed
from nlp_app.errors import ConfigError, DataError, run_command
from training.console import make_console

PARTS: dict[str, Callable[[Lab], list[Figure]]] = {
    "no-op": against_noop,
    "litserve": against_litserve,
    "reviews": reviews,
    "memory": memory,
    "start": start,
    "stream": streamed,
}


def main() -> int:
    """Measure as the command line says; gives the exit code."""
    options = read_options()
    if not has_wrk():
        raise ConfigError("wrk is not installed: it asks the servers (apt-get install wrk)")
    end_by_signal()
    os.sched_setaffinity(0, {LOAD_CORE})
    result = measure(make_lab(options), options.only)
    make_console().print(section(result))
    if options.output:
        options.output.write_text(json.dumps(rounded(result), indent=2) + "\n")
        draw(result, options.output.parent)
    return 0


def read_options() -> argparse.Namespace:
    """The command line.

    Raises:
        DataError: no folder of sets is given.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    data = os.environ.get("NLP_APP_DATA")
    parser.add_argument("--checkpoint", type=Path, required=True, help="a model of banking77")
    parser.add_argument("--imdb", type=Path, required=True, help="a model of imdb")
    parser.add_argument(
        "--data", type=Path, default=data and Path(data), help="folder of sets (default: $NLP_APP_DATA)"
    )
    parser.add_argument("--seconds", type=float, default=5, help="of each round (default: 5)")
    parser.add_argument("--requests", type=int, default=200_000, help="over which memory may not grow")
    parser.add_argument("--litserve", default="", help="folder in which the package litserve lies, if not installed")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to measure")
    parser.add_argument("--output", type=Path, help="write every figure to this JSON file, and plots beside it")
    options = parser.parse_args()
    if options.data is None:
        raise DataError("which sets? give --data FOLDER or set NLP_APP_DATA")
    return options


def measure(lab: Lab, parts: Sequence[str]) -> Found:
    """Every figure of some parts, in the order in which they need each other."""
    figures = [figure for name in PARTS if name in parts for figure in PARTS[name](lab)]
    machine = f"{platform.machine()}, core {SERVER_CORE} for the server, core {LOAD_CORE} for what asks it"
    plots: Found = {name: lab.known[name] for name in ("curves", "latency") if name in lab.known}
    shown = [asdict(figure) for figure in figures]
    return {"machine": machine, "seconds": lab.seconds, "requests": lab.requests, "figures": shown, **plots}


def section(result: Mapping[str, Any]) -> str:
    """Each figure beside its bar."""
    figures = [Figure(**values) for values in result["figures"]]
    missed = [figure.name for figure in figures if figure.kept is False]
    verdict = f"**Missed: {'; '.join(missed)}.**" if missed else "**Every bar that was measured is kept.**"
    table = markdown(("figure", "measured", "bar", "", "of what"), [figure.row() for figure in figures])
    about = f"{result['machine']}; medians of {ROUNDS} rounds of {result['seconds']:g} s, ours and the peer's in turn."
    return f"{about}\n\n{table}\n\n{verdict}"


if __name__ == "__main__":
    run_command(main)
