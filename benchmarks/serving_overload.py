"""Figures of benchmarks.serving at a rate that is given: latencies below the peak, and goodput beyond it."""

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median

from benchmarks.http_bytes import body_of
from benchmarks.load_wrk import wrk
from benchmarks.serving_figures import ROUNDS, Figure, in_turn, ratio
from benchmarks.serving_lab import CONNECTIONS, LOAD_CORE, Lab, ours
from benchmarks.serving_offered import Found, curve, offered

SHARE = 0.8
"""Of the peak, for the latencies."""


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


def goodput(name: str, bar: float, found: Sequence[Found], top: float) -> Figure:
    """Answers in time, of the peak."""
    value = median(run["goodput_s"] for run in found)
    rate = median(run["offered_s"] for run in found)
    rest = {key: median(run[key] for run in found) for key in ("turned_away", "late", "broken", "unanswered")}
    refused = median(sum(count for status, count in run["statuses"].items() if status != "200") for run in found)
    told = f"{value:,.0f} of {top:,.0f} requests/s; {rate:,.0f} offered, of which {refused:,.0f} refused"
    others = ", ".join(f"{count:,.0f} {key.replace('_', ' ')}" for key, count in rest.items())
    return Figure(name=name, bar=bar, at_least=True, value=value / top, told=f"{told}, {others}")
