"""The plots of benchmarks.serving; matplotlib is imported where it draws, since it writes a cache of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"ours": "#1f77b4", "no-op": "#999999", "ours, reviews": "#ff7f0e"}


def draw(result: Mapping[str, Any], folder: Path) -> None:
    """Write serving-goodput.png and serving-latency.png, where they were measured."""
    if result.get("curves"):
        _figure(folder / "serving-goodput.png", _goodput, result["curves"])
    if result.get("latency"):
        _figure(folder / "serving-latency.png", _latency, result["latency"])


def _figure(path: Path, plot: Any, values: Mapping[str, Any]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    plot(figure.subplots(), values)
    figure.savefig(path, dpi=120)


def _goodput(axes: "Axes", curves: Mapping[str, Any]) -> None:
    for name, runs in curves.items():
        top = runs[0]["peak"]
        offered, good = ([run[key] / top for run in runs] for key in ("offered_s", "goodput_s"))
        axes.plot(offered, good, "o-", color=COLOURS[name], label=f"{name}: the peak is {top:,.0f} requests/s")
    axes.plot([0, 1, 3], [0, 1, 1], ":", color="black", lw=1, label="all that could be answered")
    axes.set_xlabel("requests offered, of the peak")
    axes.set_ylabel("answered within a second, of the peak")
    axes.set_ylim(bottom=0)
    axes.set_title("What is left of the peak where more is asked for")
    axes.legend(loc="lower right")


def _latency(axes: "Axes", latency: Mapping[str, Any]) -> None:
    for name, run in latency.items():
        every = sum(run["histogram"])
        shares = [100 * count / every for count in run["histogram"]]
        label = f"{name}, {run['rate']:,.0f} requests/s: p99 {run['p99_ms']:.1f} ms"
        axes.stairs(shares, run["edges_ms"], color=COLOURS[name], fill=True, alpha=0.5, label=label)
        axes.axvline(run["p99_ms"], color=COLOURS[name], ls=":")
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds from when a request was due to its answer")
    axes.set_ylabel("requests, %")
    axes.set_title("Latencies at 80 % of the peak, sent at a constant rate")
    axes.legend()
