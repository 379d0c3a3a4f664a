"""`python -m benchmarks.serving`: what the server does on one core, beside an endpoint that computes nothing.

Servers have a core of their own, what asks them another. The no-op is FastAPI with our shapes and nothing behind them.
Each figure is the median of three rounds, ours and the peer's in turn, and each has a bar that it should keep. With
--output the figures are written there, and two plots beside that file.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from http.client import NOT_FOUND, OK, HTTPResponse
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from socket import create_connection
from statistics import median
from time import perf_counter
from typing import Any

import numpy

from benchmarks.common import markdown, rounded
from benchmarks.serving_load import (
    HOST,
    OpenLoop,
    body_of,
    end_by_signal,
    free_port,
    has_wrk,
    open_loop,
    peer_command,
    request_of,
    resident_mb,
    running,
    serve_command,
    wait_ready,
    wrk,
)
from benchmarks.serving_plots import draw
from nlp_app.errors import ConfigError, DataError, run_command
from nlp_app.tables import read_texts
from training.console import make_console

ROUNDS = 3
SERVER_CORE, LOAD_CORE = 0, 1
CONNECTIONS, MANY = 32, 1024
"""Of the closed loop and the latencies, and of overload: as many requests can be on their way."""
SHARE = 0.8
"""Of the peak, for the latencies."""
DEADLINE_S = 1.0
OFFERED = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
EDGES_MS = [round(10 ** (power / 10), 4) for power in range(-10, 31)]
"""Of the histogram of latencies."""
WARM_UP = 5_000
LONGEST = 5_000
"""Characters of a text of varied length."""
STREAMED = 20_000
Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Something measured, and the bar that it should keep."""

    name: str
    bar: float
    at_least: bool
    value: float | None = None
    told: str = ""
    """Of what it was made, or why it was not measured."""

    @property
    def kept(self) -> bool | None:
        """Whether the bar is; None where nothing was measured."""
        if self.value is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def row(self) -> tuple[str, ...]:
        """Of the table."""
        value = "not measured" if self.value is None else f"{self.value:,.2f}"
        bar = f"{'at least' if self.at_least else 'at most'} {self.bar:g}"
        return self.name, value, bar, {None: "", True: "kept", False: "**missed**"}[self.kept], self.told


@dataclass(frozen=True, kw_only=True)
class Lab:
    """What is measured, and for how long."""

    checkpoint: Path
    imdb: Path
    texts: Sequence[str]
    reviews: Sequence[str]
    seconds: float
    requests: int
    litserve: str
    known: dict[str, Any] = field(default_factory=dict)
    """What a later figure needs of an earlier one, and what is drawn."""

    @property
    def bodies(self) -> list[bytes]:
        """One short text each."""
        return [body_of(text) for text in self.texts]


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


def make_lab(options: argparse.Namespace) -> Lab:
    """The texts of the test files, in an order by chance that is always the same."""
    texts, reviews = (
        random.Random(0).sample(every := list(read_texts(options.data / name / "test.csv.gz", ["text"])), len(every))
        for name in ("banking77", "imdb")
    )
    return Lab(
        checkpoint=options.checkpoint,
        imdb=options.imdb,
        texts=texts,
        reviews=reviews[:2000],
        seconds=options.seconds,
        requests=options.requests,
        litserve=options.litserve,
    )


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


# Servers


@contextmanager
def ours(checkpoint: Path) -> Iterator[tuple[int, int]]:
    """Our server; gives its port and its process."""
    port = free_port()
    with running(serve_command(checkpoint, port), core=SERVER_CORE) as process:
        wait_ready(process, port)
        yield port, process.pid


@contextmanager
def peer(
    name: str, *values: object, path: str = "/health/ready", environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """A peer; gives its port."""
    port = free_port()
    with running(peer_command(name, port, *values), core=SERVER_CORE, environment=environment) as process:
        wait_ready(process, port, path)
        yield port


def in_turn(ways: Mapping[str, Callable[[], Mapping[str, float]]], key: str) -> dict[str, list[float]]:
    """A figure of each way in each round; every second round takes them in the other order."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            found[name].append(ways[name]()[key])
    return found


def ratio(found: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """The median of the ratios of the rounds."""
    return median(a / b for a, b in zip(found[one], found[other], strict=True))


# Parts


def against_noop(lab: Lab) -> list[Figure]:
    """Requests a second, latencies, and what is left of the peak where more is asked."""
    with ours(lab.checkpoint) as (port, _), peer("noop") as other:
        ports = {"ours": port, "no-op": other}
        for each in ports.values():
            closed(lab, each, seconds=1)
        return [peak(lab, ports), lone(lab, ports), tail(lab, ports), overload(lab, ports)]


def closed(lab: Lab, port: int, connections: int = CONNECTIONS, seconds: float = 0) -> dict[str, float]:
    """Short texts, each asked for when another is answered."""
    return wrk(port, lab.bodies, connections=connections, seconds=seconds or lab.seconds, core=LOAD_CORE)


def peak(lab: Lab, ports: Mapping[str, int]) -> Figure:
    """What 32 connections get through."""
    found = in_turn({name: partial(closed, lab, port) for name, port in ports.items()}, "requests_s")
    lab.known["peaks"] = peaks = {name: median(rates) for name, rates in found.items()}
    told = f"{peaks['ours']:,.0f} of {peaks['no-op']:,.0f}, {CONNECTIONS} connections"
    value = ratio(found, "ours", "no-op")
    return Figure(name="requests/s, of the no-op's", bar=0.9, at_least=True, value=value, told=told)


def lone(lab: Lab, ports: Mapping[str, int]) -> Figure:
    """What one connection waits."""
    found = in_turn({name: partial(closed, lab, port, 1) for name, port in ports.items()}, "p50_ms")
    told = f"{median(found['ours']):.2f} of {median(found['no-op']):.2f} ms, one connection"
    value = ratio(found, "ours", "no-op")
    return Figure(name="median latency, of the no-op's", bar=2.5, at_least=False, value=value, told=told)


def tail(lab: Lab, ports: Mapping[str, int]) -> Figure:
    """What 1 % wait where the server has a fifth of its time left, over as many connections as the peak was found."""
    peaks = lab.known["peaks"]
    rates = {name: SHARE * min(peaks["ours"], peaks[name]) for name in ports}
    runs: dict[str, list[Found]] = {name: [] for name in ports}

    def once(name: str) -> Found:
        runs[name].append(offered(lab, ports[name], lab.bodies, rates[name], CONNECTIONS, waits=True))
        return runs[name][-1]

    found = in_turn({name: partial(once, name) for name in ports}, "p99_ms")
    lab.known["latency"] = {name: {**of[0], "peak": peaks[name]} for name, of in runs.items()}
    less = "" if rates["no-op"] == rates["ours"] else f", which is asked for {rates['no-op']:,.0f}, all that it carries"
    late = max(run["late_p99_ms"] for of in runs.values() for run in of)
    told = f"{median(found['ours']):.1f} of {median(found['no-op']):.1f} ms at {rates['ours']:,.0f} requests/s{less}"
    return Figure(
        name=f"p99 at {SHARE:.0%} of the peak, of the no-op's",
        bar=2,
        at_least=False,
        value=ratio(found, "ours", "no-op"),
        told=f"{told}; sent at most {late:.1f} ms late (p99)",
    )


def overload(lab: Lab, ports: Mapping[str, int]) -> Figure:
    """Short texts, twice as many as the server can answer; and the curves."""
    peaks = lab.known["peaks"]
    lab.known["curves"] = {name: curve(lab, ports[name], lab.bodies, peaks[name]) for name in ports}
    found = [offered(lab, ports["ours"], lab.bodies, 2 * peaks["ours"]) for _ in range(ROUNDS)]
    return goodput("goodput at 2 x the peak, short texts, of the peak", 0.6, found, peaks["ours"])


def reviews(lab: Lab) -> list[Figure]:
    """Long texts, three times as many as the server can answer."""
    bodies = [body_of(text) for text in lab.reviews]
    with ours(lab.imdb) as (port, _):
        asked = partial(wrk, port, bodies, connections=CONNECTIONS, core=LOAD_CORE)
        asked(seconds=1)
        rate = median(asked(seconds=lab.seconds)["requests_s"] for _ in range(ROUNDS))
        lab.known.setdefault("curves", {})["ours, reviews"] = curve(lab, port, bodies, rate)
        found = [offered(lab, port, bodies, 3 * rate) for _ in range(ROUNDS)]
    return [goodput("goodput at 3 x the peak, reviews, of the peak", 0.9, found, rate)]


def offered(
    lab: Lab, port: int, bodies: Sequence[bytes], rate: float, connections: int = MANY, *, waits: bool = False
) -> Found:
    """One open loop."""
    requests = [request_of(body, f"X-Request-Timeout-Ms: {1000 * DEADLINE_S:.0f}") for body in bodies]
    load = OpenLoop(requests=requests, rate=rate, seconds=lab.seconds, waits=waits)
    open_loop(load, port, connections)
    return {"rate": rate, **summary(load)}


def summary(load: OpenLoop) -> Found:
    """What became of the requests of an open loop."""
    taken = numpy.array([seconds for _, seconds in load.answers] or [float("inf")])
    statuses = [status for status, _ in load.answers]
    good = sum(status == OK and seconds <= DEADLINE_S for status, seconds in load.answers)
    histogram, _ = numpy.histogram(1000 * taken, EDGES_MS)
    return {
        "offered_s": load.begun / load.seconds,
        "goodput_s": good / load.seconds,
        "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
        "late": statuses.count(OK) - good,
        "turned_away": load.turned_away,
        "broken": load.broken,
        "unanswered": load.flying,
        "p50_ms": 1000 * float(numpy.quantile(taken, 0.5)),
        "p99_ms": 1000 * float(numpy.quantile(taken, 0.99)),
        "late_p99_ms": 1000 * float(numpy.quantile(load.late_s or [0.0], 0.99)),
        "histogram": histogram.tolist(),
        "edges_ms": EDGES_MS,
    }


def curve(lab: Lab, port: int, bodies: Sequence[bytes], top: float) -> list[Found]:
    """What comes of more and more requests, one run each."""
    runs = [{"share": share, "peak": top, **offered(lab, port, bodies, share * top)} for share in OFFERED]
    return [{key: value for key, value in run.items() if key not in ("histogram", "edges_ms")} for run in runs]


def goodput(name: str, bar: float, found: Sequence[Found], top: float) -> Figure:
    """Answers in time, of the peak."""
    value = median(run["goodput_s"] for run in found)
    rate = median(run["offered_s"] for run in found)
    rest = {key: median(run[key] for run in found) for key in ("turned_away", "late", "broken", "unanswered")}
    refused = median(sum(count for status, count in run["statuses"].items() if status != "200") for run in found)
    told = f"{value:,.0f} of {top:,.0f} requests/s; {rate:,.0f} offered, of which {refused:,.0f} refused"
    others = ", ".join(f"{count:,.0f} {key.replace('_', ' ')}" for key, count in rest.items())
    return Figure(name=name, bar=bar, at_least=True, value=value / top, told=f"{told}, {others}")


def against_litserve(lab: Lab) -> list[Figure]:
    """The same module in another server."""
    figure = Figure(name="requests/s, of LitServe's", bar=5, at_least=True)
    release = litserve_version(lab.litserve)
    if release is None:
        return [Figure(**{**asdict(figure), "told": "litserve is not installed"})]
    paths = os.pathsep.join(filter(None, [lab.litserve, os.environ.get("PYTHONPATH", "")]))
    other = peer("litserve", lab.checkpoint, path="/health", environment={"PYTHONPATH": paths})
    with ours(lab.checkpoint) as (port, _), other as lit:
        for each in (port, lit):
            closed(lab, each, seconds=1)
        found = in_turn({"ours": partial(closed, lab, port), "LitServe": partial(closed, lab, lit)}, "requests_s")
    told = f"{median(found['ours']):,.0f} of {median(found['LitServe']):,.0f}, LitServe {release} with batches of 32"
    return [Figure(**{**asdict(figure), "value": ratio(found, "ours", "LitServe"), "told": told})]


def litserve_version(folder: str) -> str | None:
    """Of the installed package, or of the one in a folder."""
    for path in Path(folder).glob("litserve-*.dist-info") if folder else ():
        return path.name.removeprefix("litserve-").removesuffix(".dist-info")
    try:
        return version("litserve")
    except PackageNotFoundError:
        return None


def memory(lab: Lab) -> list[Figure]:
    """Of a process that has just begun, and how it grows."""
    bodies = [body_of(text) for text in varied(lab.texts, 3000)]
    with ours(lab.checkpoint) as (port, process):
        begun = resident_mb(process)
        ask_for(WARM_UP, port, bodies, 1)
        before = resident_mb(process)
        asked = ask_for(lab.requests, port, bodies, lab.seconds)
        after = resident_mb(process)
    told = f"{before:.0f} to {after:.0f} MB over {asked:,} requests of 0 to {LONGEST:,} characters"
    return [
        Figure(name="resident MB when loaded", bar=350, at_least=False, value=begun, told="one process, banking77"),
        Figure(name="its growth in %", bar=2, at_least=False, value=100 * (after / before - 1), told=told),
    ]


def ask_for(count: int, port: int, bodies: Sequence[bytes], seconds: float) -> int:
    """At least so many requests; gives how many."""
    asked = 0
    while asked < count:
        found = wrk(port, bodies, connections=CONNECTIONS, seconds=seconds, core=LOAD_CORE)
        if not found["requests"] or found["refused"] or found["broken"]:
            raise RuntimeError(f"the server did not answer every request: {found}")
        asked += int(found["requests"])
    return asked


def varied(texts: Sequence[str], count: int) -> list[str]:
    """Mostly short texts; a tenth of any length up to LONGEST, and some of every script."""
    chance, found = random.Random(0), []
    letters = [chr(code) for first in (0x61, 0x391, 0x410, 0x5D0, 0x4E00, 0x1F600) for code in range(first, first + 20)]
    for _ in range(count):
        text, kind = chance.choice(texts), chance.random()
        if kind < 0.05:
            text = " ".join(chance.choices(texts, k=1 + LONGEST // 40))
        elif kind < 0.15:
            text = "".join(chance.choices([*letters, " "], k=chance.choice((20, 40, LONGEST))))
        found.append(text[: chance.randint(0, LONGEST)] if kind < 0.1 else text)
    return found


def start(lab: Lab) -> list[Figure]:
    """From a command to an answer."""
    taken = []
    for _ in range(ROUNDS):
        port, begun = free_port(), perf_counter()
        with running(serve_command(lab.checkpoint, port), core=SERVER_CORE) as process:
            wait_ready(process, port)
            taken.append(perf_counter() - begun)
    told = f"{min(taken):.2f} to {max(taken):.2f}"
    name = "seconds from the start to ready"
    return [Figure(name=name, bar=2.5, at_least=False, value=median(taken), told=told)]


def streamed(lab: Lab) -> list[Figure]:
    """Many texts in one request, beside the module without a server."""
    figure = Figure(name="texts/s of /predict/stream, of those in process", bar=0.7, at_least=True)
    lines = b"".join(body_of(lab.texts[row % len(lab.texts)]) + b"\n" for row in range(STREAMED))
    with ours(lab.checkpoint) as (port, _):
        status, _ = stream(port, lines[: lines.index(b"\n") + 1])
        if status != OK:
            reason = "there is no such path" if status == NOT_FOUND else f"the answer was {status}"
            return [Figure(**{**asdict(figure), "told": reason})]
        rates = [STREAMED / stream(port, lines)[1] for _ in range(ROUNDS)]
    alone = in_process(lab.checkpoint, lines)
    told = f"{median(rates):,.0f} of {alone:,.0f}, {STREAMED:,} texts"
    return [Figure(**{**asdict(figure), "value": median(rates) / alone, "told": told})]


def stream(port: int, lines: bytes) -> tuple[int, float]:
    """Send lines and read the answers meanwhile; gives the status and the seconds.

    Raises:
        RuntimeError: there is not one answer a line.
    """
    head = f"POST /predict/stream HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/x-ndjson\r\n"
    request = f"{head}Content-Length: {len(lines)}\r\nConnection: close\r\n\r\n".encode() + lines
    begun = perf_counter()
    with create_connection((HOST, port), timeout=60) as connection:
        sending = threading.Thread(target=connection.sendall, args=(request,), daemon=True)
        sending.start()
        answer = HTTPResponse(connection, method="POST")
        answer.begin()
        found = [line for line in answer.read().splitlines() if line]
    if answer.status == OK and (len(found) != lines.count(b"\n") or any(b'"label"' not in line for line in found)):
        raise RuntimeError(f"{len(found):,} answers came for {lines.count(bytes([10])):,} texts, or some are refusals")
    return answer.status, perf_counter() - begun


def in_process(checkpoint: Path, lines: bytes) -> float:
    """Texts a second of Predictor.predict, on the server's core."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        path.write_bytes(lines)
        command = ["taskset", "-c", SERVER_CORE, *peer_command("predict", checkpoint, path)]
        told = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    return float(told)


PARTS: dict[str, Callable[[Lab], list[Figure]]] = {
    "no-op": against_noop,
    "litserve": against_litserve,
    "reviews": reviews,
    "memory": memory,
    "start": start,
    "stream": streamed,
}


if __name__ == "__main__":
    run_command(main)
