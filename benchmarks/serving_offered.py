"""Runs of an open loop for benchmarks.serving, and what became of their requests."""

from collections.abc import Sequence
from http.client import OK
from typing import Any

import numpy

from benchmarks.http_bytes import request_of
from benchmarks.load_connections import open_loop
from benchmarks.load_open import OpenLoop
from benchmarks.serving_lab import Lab

MANY = 1024
"""Connections of overload: as many requests can be on their way."""
DEADLINE_S = 1.0
OFFERED = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
EDGES_MS = [round(10 ** (power / 10), 4) for power in range(-10, 31)]
"""Of the histogram of latencies."""
Found = dict[str, Any]


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
