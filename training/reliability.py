"""The reliability plot: how many of the answers of like score are right; matplotlib is imported where it draws."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from nlp_app.errors import ConfigError
from nlp_app.folder import write_file
from training.calibration import BINS, bins, error_of
from training.writable import check_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg")
RIGHT, PERFECT = "#1f77b4", "#999999"


def check_plot(path: Path) -> None:
    """Raise an error where no plot can be written there, before the work whose result it shows.

    Raises:
        ConfigError: the name ends in none of FORMATS.
        OutputError: it cannot be written, or is something's place.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"--reliability-plot {path} must end in {' or '.join(FORMATS)}")
    check_file("--reliability-plot", path)


def plot_reliability(path: Path, scores: Tensor, right: Tensor, *, title: str) -> None:
    """Draw the share of right answers in each bin of scores, and below it how many texts are in the bin.

    Args:
        path: a .png or .svg file, replaced where it is there.
        scores: (N,) of the best label of each text.
        right: (N,) 1 where the text has it.
        title: which texts these are.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure, kind, stream = Figure(figsize=(5.5, 6), layout="constrained"), path.suffix[1:].lower(), io.BytesIO()
    FigureCanvasAgg(figure)
    shares, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.suptitle(f"{title}: {len(scores):,} texts, calibration error {error_of(scores, right):.3f}", fontsize=11)
    _shares(shares, scores, right)
    _counts(counts, scores, right)
    # The same answers give the same bytes: no date, no random names. And a text stays one that can be searched.
    with rc_context({"svg.hashsalt": "reliability", "svg.fonttype": "none"}):
        figure.savefig(stream, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    write_file(path.resolve(), stream.getvalue())


def _shares(axes: "Axes", scores: Tensor, right: Tensor) -> None:
    count, score, share = bins(scores, right)
    held = count > 0
    middles = [(place + 0.5) / BINS for place in held.nonzero().flatten().tolist()]
    axes.bar(middles, share[held].tolist(), width=0.94 / BINS, color=RIGHT, alpha=0.35)
    axes.plot(
        score[held].tolist(),
        share[held].tolist(),
        "o",
        color=RIGHT,
        clip_on=False,
        label="mean score of a bin, its share right",
    )
    axes.plot([0, 1], [0, 1], "--", color=PERFECT, label="share right = score")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    axes.set_ylabel("share of the answers that is right")
    axes.legend(loc="upper left", fontsize=9)


def _counts(axes: "Axes", scores: Tensor, right: Tensor) -> None:
    count, _, _ = bins(scores, right)
    bars = axes.bar([(place + 0.5) / BINS for place in range(BINS)], count.tolist(), width=0.94 / BINS, color=RIGHT)
    axes.bar_label(bars, [f"{number:,.0f}" if number else "" for number in count.tolist()], fontsize=7)
    axes.margins(y=0.25)
    axes.set_ylabel("texts")
    axes.set_xlabel("score of the best label")
