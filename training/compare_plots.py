"""The plots of training.compare; matplotlib is imported where it draws, since it writes a cache of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.compare_classes import CONTROL, FORMS
from training.losses import LOSSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"cross-entropy": "#1f77b4", "nll": "#ff7f0e", "naive": "#d62728", CONTROL: "#999999"}
ROUNDING = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7}
STATES = {"right": "#b7e1b0", "no gradient": "#ffd98a", "infinite": "#f19a94"}


def draw(result: Mapping[str, Any], folder: Path) -> None:
    """Write a PNG for each part of the comparison into an existing folder."""
    plots = {"steps": _steps, "scores": _scores, "classes": _classes, "extremes": _extremes}
    for name, plot in plots.items():
        _figure(folder / f"{name}.png", plot, result)


def _figure(path: Path, plot: Any, result: Mapping[str, Any]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    plot(figure, result)
    figure.savefig(path, dpi=120)


def _steps(figure: Any, result: Mapping[str, Any]) -> None:
    every = figure.subplots(1, 3, sharey=True)
    keys = {"loss": "loss", "gradient": "gradient, of its norm", "logits": "logits"}
    for axes, (key, name) in zip(every, keys.items(), strict=True):
        for (precision, steps), width in zip(result["steps"].items(), (7, 4, 1.5), strict=True):
            (line,) = axes.plot(range(1, len(steps) + 1), [row[key] for row in steps], lw=width, label=precision)
            axes.axhline(ROUNDING[precision], color=line.get_color(), ls=":", lw=1)
        axes.set_yscale("symlog", linthresh=1e-17)  # a line at 0 is no difference at all
        axes.set_yticks([0, 1e-16, 1e-12, 1e-8, 1e-4, 1], ["none", "1e-16", "1e-12", "1e-8", "1e-4", "1"])
        axes.set_ylim(-5e-18, 3)
        axes.set_title(name)
        axes.set_xlabel("step")
    every[0].set_ylabel("largest difference between the losses\n(dotted: one rounding of a number near 1)")
    every[2].legend(loc="center right")
    worst = max(row[key] for steps in result["steps"].values() for row in steps for key in keys)
    found = f"differ by {worst:.0e} at most" if worst else "give the same bits at every step and precision"
    figure.suptitle(f"Cross-entropy and log-softmax + NLL {found}\n({result['steps_of']}; each takes its own steps)")


def _scores(figure: Any, result: Mapping[str, Any]) -> None:
    axes: Axes = figure.subplots()
    for place, row in enumerate(result["scores"]):
        pairs = zip(*([100 * run["accuracy"] for run in row["runs"][loss]] for loss in LOSSES), strict=True)
        for number, pair in enumerate(pairs):
            axes.plot([place - 0.15, place + 0.15], pair, "x-", color="#bbbbbb",
                      label="one seed" if place == number == 0 else None)  # fmt: skip
        for shift, loss in zip((-0.15, 0.15), LOSSES, strict=True):
            mean, spread = (100 * row[key]["accuracy"][loss] for key in ("mean", "spread"))
            axes.errorbar([place + shift], [mean], [spread], fmt="o", capsize=6, color=COLOURS[loss],
                          label=f"{loss}: mean ± standard deviation" if place == 0 else None)  # fmt: skip
    equal, seeds = (sum(row[key] for row in result["scores"]) for key in ("bit_equal", "seeds"))
    axes.set_xticks(range(len(result["scores"])), [row["set"] for row in result["scores"]])
    axes.set_xlim(-0.5, len(result["scores"]) - 0.5)
    axes.set_ylabel("validation accuracy, %")
    moves = "Scores move by the seed, not by the loss: t" if equal == seeds else "T"
    axes.set_title(f"{moves}he same weights, bit for bit, in {equal} of {seeds} pairs of runs")
    figure.legend(loc="outside lower center", ncols=3)


def _classes(figure: Any, result: Mapping[str, Any]) -> None:
    rows = {form: [row for row in result["classes"] if row["form"] == form] for form in (*FORMS, CONTROL)}
    base = rows["cross-entropy"]
    for axes, key in zip(figure.subplots(1, 2), ("time", "memory"), strict=True):
        for form, size in zip(("naive", "nll", CONTROL), (13, 9, 5), strict=True):
            axes.plot(range(len(base)), [row[key] for row in rows[form]], "o-", color=COLOURS[form], label=form,
                      markersize=size)  # fmt: skip
        axes.axhline(1, color=COLOURS["cross-entropy"], label="cross-entropy")
        of = [f"{1e3 * row['seconds']:.2g} ms" if key == "time" else _bytes(row["bytes"]) for row in base]
        axes.set_xticks(range(len(base)), [f"{row['classes']:,}\n{text}" for row, text in zip(base, of, strict=True)])
        axes.set_xlim(-0.4, len(base) - 0.6)
        axes.set_ylim(0, 1.15 * max(row[key] for form in rows.values() for row in form))
        axes.set_xlabel("classes; below: cross-entropy itself")
        axes.set_ylabel(f"{'time' if key == 'time' else 'peak memory'}, as a multiple of cross-entropy's")
    axes.legend(loc="lower right")
    figure.suptitle("What log-softmax + NLL costs beside cross-entropy: forward and backward of the loss, 64 texts")


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _extremes(figure: Any, result: Mapping[str, Any]) -> None:
    axes: Axes = figure.subplots()
    lines = list(dict.fromkeys((row["form"], row["precision"]) for row in result["extremes"]))
    lines.sort(key=lambda line: list(FORMS).index(line[0]))
    sizes = list(dict.fromkeys(row["size"] for row in result["extremes"]))
    for row in result["extremes"]:
        x, y = sizes.index(row["size"]), lines.index((row["form"], row["precision"]))
        state = (
            "infinite" if isinstance(row["loss"], str) else "right" if row["gradient"] == "finite" else "no gradient"
        )
        axes.fill_between([x - 0.5, x + 0.5], y - 0.5, y + 0.5, color=STATES[state], ec="white")
        text = row["error"] if isinstance(row["error"], str) else f"{row['error']:.0e}" if row["error"] else "0"
        axes.text(x, y, {"infinite": str(row["loss"]), "no gradient": f"{text},\nno gradient"}.get(state, text),
                  ha="center", va="center", fontsize=8)  # fmt: skip
    axes.set_xticks(range(len(sizes)), [f"±{size:g}" for size in sizes])
    axes.set_yticks(range(len(lines)), [", ".join(line) for line in lines])
    axes.set_xlim(-0.5, len(sizes) - 0.5)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel(
        "logits (size, -size, 0), where the second class is right; in each field: error of the loss, relative"
    )
    axes.set_title(f"Extreme logits: {'; '.join(_stays(form, result['extremes']) for form in FORMS)}", fontsize=11)


def _stays(form: str, rows: Any) -> str:
    wrong = [row["size"] for row in rows if row["form"] == form
             and (isinstance(row["loss"], str) or row["gradient"] != "finite")]  # fmt: skip
    return f"{form} breaks from ±{min(wrong):g} on" if wrong else f"{form} stays right"
