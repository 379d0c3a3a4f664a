"""The plots of training.compare; matplotlib is imported where it draws, since it writes a cache of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.compare_classes import FORMS
from training.losses import LOSSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"cross-entropy": "#1f77b4", "nll": "#ff7f0e", "naive": "#d62728"}


def draw(result: Mapping[str, Any], folder: Path) -> None:
    """Write a PNG for each part of the comparison into an existing folder."""
    plots = {"steps": _steps, "scores": _scores, "classes": _classes, "extremes": _extremes}
    for name, plot in plots.items():
        _figure(folder / f"{name}.png", plot, result)


def _figure(path: Path, plot: Any, result: Mapping[str, Any]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    plot(figure, result)
    figure.savefig(path, dpi=120)


def _steps(figure: Any, result: Mapping[str, Any]) -> None:
    axes: Axes = figure.subplots()
    for name, steps in result["steps"].items():
        values = [max(row["gradient"], 1e-18) for row in steps]
        axes.plot(range(1, len(values) + 1), values, label=name)
    axes.set_yscale("log")
    axes.set_xlabel(f"step, on {result['steps_of']}; each loss takes its own steps")
    axes.set_ylabel("difference, of the largest entry\n(1e-18 stands for none)")
    axes.set_title("Gradients of cross-entropy and of log-softmax + NLL differ by rounding alone")
    axes.legend()


def _scores(figure: Any, result: Mapping[str, Any]) -> None:
    axes: Axes = figure.subplots()
    places = range(len(result["scores"]))
    for shift, loss in zip((-0.15, 0.15), LOSSES, strict=True):
        means = [100 * row["mean"]["accuracy"][loss] for row in result["scores"]]
        spreads = [100 * row["spread"]["accuracy"][loss] for row in result["scores"]]
        at = [place + shift for place in places]
        axes.errorbar(at, means, spreads, fmt="o", capsize=6, color=COLOURS[loss], label=loss)
        for place, row in zip(at, result["scores"], strict=True):
            runs = [100 * run["accuracy"] for run in row["runs"][loss]]
            axes.plot([place] * len(runs), runs, "x", color=COLOURS[loss], alpha=0.5)
    equal, seeds = (sum(row[key] for row in result["scores"]) for key in ("bit_equal", "seeds"))
    axes.set_xticks(list(places), [row["set"] for row in result["scores"]])
    axes.set_xlim(-0.5, len(result["scores"]) - 0.5)
    axes.set_ylabel("validation accuracy, %\n(mean, spread, each seed)")
    axes.set_title(f"Scores of both losses; the same bits in {equal} of {seeds} pairs of runs")
    axes.legend()


def _classes(figure: Any, result: Mapping[str, Any]) -> None:
    both = figure.subplots(1, 2)
    for axes, key, unit, scale in zip(both, ("seconds", "bytes"), ("ms", "MB"), (1e3, 1e-6), strict=True):
        for form in FORMS:
            rows = [row for row in result["classes"] if row["form"] == form]
            axes.plot([row["classes"] for row in rows], [scale * row[key] for row in rows], "o-",
                      color=COLOURS[form], label=form)  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("classes")
        axes.set_ylabel(unit)
        axes.set_title("time" if key == "seconds" else "peak memory")
    both[0].legend()
    figure.suptitle("Forward and backward of the loss alone, 64 texts")


def _extremes(figure: Any, result: Mapping[str, Any]) -> None:
    axes: Axes = figure.subplots()
    for form, marker in zip(FORMS, ("o", "+", "s"), strict=True):
        rows = [row for row in result["extremes"] if row["form"] == form and row["precision"] == "float32"]
        right = [row for row in rows if not isinstance(row["loss"], str) and row["gradient"] == "finite"]
        axes.plot([row["size"] for row in right], [row["loss"] for row in right], marker, markersize=11,
                  fillstyle="none", color=COLOURS[form], label=form)  # fmt: skip
        wrong = [row for row in rows if row not in right]
        axes.plot([row["size"] for row in wrong], [row["true"] for row in wrong], "X", markersize=11,
                  color=COLOURS[form], label=f"{form}: infinite or no gradient" if wrong else None)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("size of the logits (size, -size, 0), float32")
    axes.set_ylabel("loss, where the second class is right")
    axes.set_title("Both losses hold at any size; softmax, then log does not")
    axes.legend()
