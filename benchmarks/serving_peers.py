"""Figures of benchmarks.serving beside a peer's: an endpoint that computes nothing, and LitServe."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from benchmarks.serving_figures import Figure, in_turn, ratio
from benchmarks.serving_lab import CONNECTIONS, Lab, closed, ours, peer
from benchmarks.serving_overload import overload, tail


def against_noop(lab: Lab) -> list[Figure]:
    """Requests a second, latencies, and what is left of the peak where more is asked."""
    with ours(lab.checkpoint) as (port, _), peer("noop") as other:
        ports = {"ours": port, "no-op": other}
        for each in ports.values():
            closed(lab, each, seconds=1)
        return [peak(lab, ports), lone(lab, ports), tail(lab, ports), overload(lab, ports)]


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
