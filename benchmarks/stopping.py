"""`python -m benchmarks.stopping`: what each rule of early stopping loses in score and saves in time.

Each training file gives four fifths to train on, a tenth to choose and stop by, and a tenth to score what was chosen. A
run to the end is made once a seed; then every rule is asked where it would have stopped. No test file is opened.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.accuracy import write
from benchmarks.common import device_name, markdown, rounded, spread
from nlp_app.errors import DataError, run_command
from training.assemble import new_learner
from training.batches import Dataset
from training.console import make_console
from training.data import split
from training.early_stopping import MEASURES, EarlyStopping, Evaluation, Margin, best
from training.fit import evaluation
from training.options import Options
from training.prepare import prepare, read
from training.validate import validate

SETS = ("trec6", "mr", "banking77")
EPOCHS = 40
RULES: dict[str, tuple[str, EarlyStopping]] = {
    **{f"loss, last {k}": ("loss", EarlyStopping(patience=k)) for k in (1, 2, 3, 5, 10)},
    "loss, last 3, 0.5se": ("loss", EarlyStopping(patience=3, margin=Margin.parse("0.5se"))),
    **{f"accuracy, last {k}": ("accuracy", EarlyStopping(patience=k, measure="accuracy")) for k in (3, 5, 10)},
    "accuracy, last 5, 0.5se": (
        "accuracy", EarlyStopping(patience=5, measure="accuracy", margin=Margin.parse("0.5se")),
    ),
    **{f"macro-f1, last {k}": ("macro-f1", EarlyStopping(patience=k, measure="macro-f1")) for k in (5,)},
    **{f"loss, GL {t:g}": ("loss", EarlyStopping(patience=1, rule="gl", threshold=t)) for t in (1, 2, 5)},
    **{f"loss, PQ {t:g}, k 3": ("loss", EarlyStopping(patience=3, rule="pq", threshold=t)) for t in (0.5, 0.75, 1)},
}  # fmt: skip

NONE = "none: the last epoch"


def main() -> int:
    """Train to the end, ask the rules, print, write; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stopping", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of a run to the end")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--output", type=Path, help="write every figure to this JSON file")
    options = parser.parse_args()
    folder = os.environ.get("NLP_APP_DATA")
    if not folder:
        raise DataError("which sets? set NLP_APP_DATA to their folder")
    runs: list[dict[str, Any]] = [
        {"set": name, "seed": seed, "curve": curve(Path(folder) / name / "train.csv.gz", seed, options.epochs)}
        for name in options.sets
        for seed in range(options.seeds)
    ]
    result = {
        "device": device_name(torch.device("cpu")),
        "epochs": options.epochs,
        "seeds": options.seeds,
        "runs": runs,
    }
    make_console().print(section(result))
    if options.output:
        options.output.write_text(json.dumps(rounded(result)) + "\n")
        draw(result, options.output.with_suffix(".png"))
    return 0


def curve(path: Path, seed: int, epochs: int) -> list[dict[str, Any]]:
    """Of each epoch: training loss, validation scores by each measure, and the scores of the part kept apart."""
    train, apart = split(read(path, Options()), share=0.1, seed=1000 + seed)
    with tempfile.TemporaryDirectory() as folder:
        options = Options(train=write(Path(folder) / "train.jsonl", train), seed=seed, epochs=epochs)
        prepared = prepare(options, make_console())
    scored = Dataset.of(apart, tokenizer=prepared.tokenizer, config=prepared.config)
    learner = new_learner(options, prepared, prepared.train, make_console())
    points = []
    for epoch in range(1, epochs + 1):
        loss = learner.advance(prepared.train, to=epoch * learner.steps_per_epoch, on_step=lambda *_: None)
        by = {measure: validate(learner.averaged, prepared.validation, measure) for measure in MEASURES}
        points.append({"train_loss": loss, "validation": by, "apart": validate(learner.averaged, scored)})
    return points


def rows_of(runs: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """For each rule and set, over the seeds: accuracy lost to the best epoch of the whole run, and the time saved."""
    for name in dict.fromkeys(run["set"] for run in runs):
        curves = [run["curve"] for run in runs if run["set"] == name]
        ends = [(curve[-1]["apart"]["accuracy"], len(curve)) for curve in curves]
        yield {"rule": NONE, "set": name, **_beside(ends, [_stopped(curve, "loss", None) for curve in curves], curves)}
        for rule, (measure, stopping) in RULES.items():
            found = [_stopped(curve, measure, stopping) for curve in curves]
            whole = [_stopped(curve, measure, None) for curve in curves]
            yield {"rule": rule, "set": name, **_beside(found, whole, curves)}


def _beside(
    found: Sequence[tuple[float, int]], whole: Sequence[tuple[float, int]], curves: Sequence[Sequence[Any]]
) -> dict[str, Any]:
    """Accuracy lost by seed; means of the accuracy and of the share of epochs saved."""
    return {
        "accuracy": mean(here[0] for here in found),
        "lost": [end[0] - here[0] for here, end in zip(found, whole, strict=True)],
        "saved": mean(1 - here[1] / len(curve) for here, curve in zip(found, curves, strict=True)),
    }


def _stopped(curve: Sequence[Mapping[str, Any]], measure: str, stopping: EarlyStopping | None) -> tuple[float, int]:
    """The accuracy, on the part kept apart, of the epoch that would be chosen, and the epochs made."""
    history = _history(curve, measure)
    made = len(history)
    if stopping is not None:
        made = next((made for made in range(1, made + 1) if stopping.reason(history[:made])), made)
    return curve[best(history[:made]) - 1]["apart"]["accuracy"], made


def _history(curve: Sequence[Mapping[str, Any]], measure: str) -> list[Evaluation]:
    return [evaluation({**point["validation"][measure], "train_loss": point["train_loss"]}, measure) for point in curve]


def draw(result: Mapping[str, Any], path: Path) -> None:
    """The validation loss of each run, and where the rule of the last 3 chooses and stops."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = list(dict.fromkeys(run["set"] for run in result["runs"]))
    figure = Figure(figsize=(4 * len(sets), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
        for run in result["runs"]:
            if run["set"] == name:
                history = _history(run["curve"], "loss")
                losses = [-one.score for one in history]
                _, made = _stopped(run["curve"], "loss", RULES["loss, last 3"][1])
                chosen = best(history[:made])
                axes.plot(range(1, len(losses) + 1), losses, color="#1f77b4", alpha=0.6)
                axes.plot(chosen, losses[chosen - 1], "o", color="#2ca02c", label="best, kept")
                axes.plot(made, losses[made - 1], "x", color="#d62728", label="stopped")
        axes.set_title(name)
        axes.set_xlabel("epoch")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:2], labels[:2])
    figure.axes[0].set_ylabel("validation loss")
    figure.suptitle("Stop when the last 3 evaluations brought no lower validation loss: the rest only overfits")
    figure.savefig(path, dpi=120)


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    found = list(rows_of(result["runs"]))
    sets = list(dict.fromkeys(row["set"] for row in found))
    rows, means = [], {}
    for rule in (NONE, *RULES):
        of_rule = {row["set"]: row for row in found if row["rule"] == rule}
        means[rule] = {
            "lost": [mean(losses) for losses in zip(*(row["lost"] for row in of_rule.values()), strict=True)],
            "saved": mean(row["saved"] for row in of_rule.values()),
        }
        rows.append((rule, *(_cell(of_rule[name]) for name in sets), _cell(means[rule])))
    return (
        f"{markdown(('rule', *sets, 'mean'), rows)}\n\n"
        "Points of accuracy lost, with their spread over the seeds, and share of "
        f"{result['epochs']} epochs saved, beside the best epoch of the whole run by the same score, on texts kept "
        f"apart; mean of {result['seeds']} seeds. A minus is a gain.\n\n{verdict(means)}"
    )


def verdict(means: Mapping[str, Mapping[str, Any]]) -> str:
    """What the points lost by seed and the share saved of each rule say, with the spread as the scale of noise."""
    none, chosen = means[NONE], means["loss, last 3"]
    lost, noise = mean(chosen["lost"]), spread(chosen["lost"])
    word = "does not hold"
    if chosen["saved"] > 0.3 and lost < mean(none["lost"]):
        word = "holds" if lost <= noise else f"holds only when {100 * lost:.2f} points may be lost"
    return (
        f"**Verdict: {word}.** Training on to the last epoch loses {_points(none)}. Stopping when the last 3 "
        f"evaluations brought no lower validation loss, and keeping the best, loses {_points(chosen)} and saves "
        f"{chosen['saved']:.0%} of the time. {_of_larger(means)}"
    )


def _of_larger(means: Mapping[str, Mapping[str, Any]]) -> str:
    """What looking back further changes."""
    chosen, larger = means["loss, last 3"], {k: means[f"loss, last {k}"] for k in (5, 10)}
    gains = {k: [one - other for one, other in zip(chosen["lost"], row["lost"], strict=True)]
             for k, row in larger.items()}  # fmt: skip
    beyond = [f"{100 * mean(gain):.2f} points with {k}" for k, gain in gains.items() if mean(gain) > spread(gain)]
    saved = " and ".join(f"{row['saved']:.0%}" for row in larger.values())
    less = "less" if all(row["saved"] < chosen["saved"] for row in larger.values()) else "no less"
    gained = f"gains {' and '.join(beyond)}" if beyond else "gains nothing beyond the spread"
    return f"A larger k, 5 or 10, saves {less} ({saved}) and {gained}."


def _points(row: Mapping[str, Any]) -> str:
    return f"{100 * mean(row['lost']):.2f} ± {100 * spread(row['lost']):.2f} points"


def _cell(row: Mapping[str, Any]) -> str:
    return f"{100 * mean(row['lost']):+.2f} ± {100 * spread(row['lost']):.2f}, {row['saved']:.0%}"


if __name__ == "__main__":
    run_command(main)
