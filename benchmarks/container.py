"""`python -m benchmarks.container --model DIR`: the images that serve, their sizes, starts, memory and requests.

The images are built already (`deploy/check.sh` builds them). Start is from the first instruction of the container's
program to its first answer; the rest is beside the same server outside, a core for each, in turn. The model has an
ONNX graph (`python -m training.export DIR --onnx`).
"""

import argparse
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import markdown, rounded
from benchmarks.http_bytes import body_of
from benchmarks.load_wrk import has_wrk, wrk
from benchmarks.processes import resident_mb, running
from benchmarks.servers import free_port, serve_command, wait_ready
from benchmarks.serving_figures import Figure, in_turn, ratio
from benchmarks.serving_lab import CONNECTIONS, LOAD_CORE, SERVER_CORE
from deploy.containers import Server, serving, size_mb
from nlp_app.errors import ConfigError, DataError, run_command
from nlp_app.tables import read_texts
from training.console import make_console

BARS = {"nlp-app": ("torch", 750, 4.0, 350), "nlp-app-onnx": ("onnx", 220, 1.5, 150)}
"""Of each image: what computes in it, MB beyond the base, seconds to start, MB at rest."""
LEAST = 0.95
"""Of the requests of the server outside."""
STARTS = 5
ROUNDS = 9
"""Inside and outside: a bar of a twentieth needs more of them than the others do."""
PINNED = ("taskset", "-c", str(SERVER_CORE))


def main() -> int:
    """Measure as the command line says; gives the exit code."""
    options = read_options()
    if not has_wrk():
        raise ConfigError("wrk is not installed: it asks the servers (apt-get install wrk)")
    texts = list(read_texts(options.data / "banking77" / "test.csv.gz", ["text"]))
    bodies = [body_of(text) for text in texts]
    figures = [one for tag in BARS for one in measured(tag, options, bodies)]
    result = {"machine": f"{platform.machine()}, one core for the server", "figures": [asdict(one) for one in figures]}
    make_console().print(section(result))
    if options.output:
        options.output.write_text(json.dumps(rounded(result), indent=2) + "\n")
    return 0


def read_options() -> argparse.Namespace:
    """The command line.

    Raises:
        DataError: no folder of sets is given.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.container", description=__doc__)
    data = os.environ.get("NLP_APP_DATA")
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint of banking77 with model.onnx")
    parser.add_argument("--base", default="python-base:3.11", help="the image that the others are built on")
    parser.add_argument(
        "--data", type=Path, default=data and Path(data), help="folder of sets (default: $NLP_APP_DATA)"
    )
    parser.add_argument("--seconds", type=float, default=3, help="of each round (default: 3)")
    parser.add_argument("--output", type=Path, help="write every figure to this JSON file")
    options = parser.parse_args()
    if options.data is None:
        raise DataError("which sets? give --data FOLDER or set NLP_APP_DATA")
    options.model = options.model.resolve()
    return options


def measured(tag: str, options: argparse.Namespace, bodies: list[bytes]) -> list[Figure]:
    """Every figure of an image."""
    runtime, most_mb, most_s, most_rest_mb = BARS[tag]
    base, whole = size_mb(options.base), size_mb(tag)
    starts, rests = [], []
    for _ in range(STARTS):
        with container(tag, options.model) as server:
            starts.append(server.wait("/predict", {"inputs": "where is my card ?"}))
            rests.append(resident_mb(server.process.pid))

    def inside() -> Mapping[str, float]:
        with container(tag, options.model) as server:
            server.wait()
            return wrk(server.port, bodies, connections=CONNECTIONS, seconds=options.seconds, core=LOAD_CORE)

    def outside() -> Mapping[str, float]:
        port = free_port()
        with running(serve_command(options.model, port, "--runtime", runtime), core=SERVER_CORE) as process:
            wait_ready(process, port)
            return wrk(port, bodies, connections=CONNECTIONS, seconds=options.seconds, core=LOAD_CORE)

    found = in_turn({"inside": inside, "outside": outside}, "requests_s", ROUNDS)
    told = ", ".join(f"{median(values):,.0f} requests/s {name}" for name, values in found.items())
    about = f"median of {STARTS} starts with the banking77 model"
    return [
        Figure(name=f"{tag}: MB beyond its base", bar=most_mb, at_least=False, value=whole - base,
               told=f"{whole:.0f} MB unpacked"),
        Figure(name=f"{tag}: s to the first answer", bar=most_s, at_least=False, value=median(starts), told=about),
        Figure(name=f"{tag}: resident MB at rest", bar=most_rest_mb, at_least=False, value=median(rests), told=about),
        Figure(name=f"{tag}: requests/s, of those outside", bar=LEAST, at_least=True,
               value=ratio(found, "inside", "outside"), told=told),
    ]  # fmt: skip


@contextmanager
def container(tag: str, model: Path) -> Iterator[Server]:
    """One that serves the model on the server's core."""
    environment = {"NLP_APP_THREADS": "1", "NLP_APP_LOG_LEVEL": "warning", "OMP_NUM_THREADS": "1"}
    with serving(tag, free_port(), environment=environment, volumes={model: "/model:ro"}, prefix=PINNED) as server:
        yield server


def section(result: Mapping[str, Any]) -> str:
    """Each figure beside its bar."""
    figures = [Figure(**values) for values in result["figures"]]
    missed = [figure.name for figure in figures if figure.kept is False]
    verdict = f"**Missed: {'; '.join(missed)}.**" if missed else "**Every bar is kept.**"
    table = markdown(("figure", "measured", "bar", "", "of what"), [figure.row() for figure in figures])
    return f"{result['machine']}; medians of {ROUNDS} rounds, inside and outside in turn.\n\n{table}\n\n{verdict}"


if __name__ == "__main__":
    run_command(main)
