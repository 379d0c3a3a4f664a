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
from benchmarks.common import device_name, markdown
from nlp_app.errors import DataError, run_command
from training.assemble import new_learner
from training.batches import Dataset
from training.console import make_console
from training.data import split
from training.early_stopping import MEASURES, EarlyStopping, Margin, best
from training.fit import evaluation, validate
from training.options import Options
from training.prepare import prepare, read

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
    runs = [
        {"set": name, "seed": seed, "curve": curve(Path(folder) / name / "train.csv.gz", seed, options.epochs)}
        for name in options.sets
        for seed in range(options.seeds)
    ]
    result = {"device": device_name(torch.device("cpu")), "epochs": options.epochs, "seeds": options.seeds,
              "runs": runs, "rows": list(rows_of(runs))}  # fmt: skip
    make_console().print(section(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def curve(path: Path, seed: int, epochs: int) -> list[dict[str, Any]]:
    """Of each epoch: training loss, validation scores by each measure, and the scores of the part kept apart."""
    train, apart = split(read(path, Options()), share=0.1, seed=1000 + seed)
    with tempfile.TemporaryDirectory() as folder:
        options = Options(train=write(Path(folder) / "train.csv", train), seed=seed, epochs=epochs)
        prepared = prepare(options, make_console())
    scored = Dataset.of(
        apart, tokenizer=prepared.tokenizer, labels=prepared.config.labels, max_length=options.max_length
    )
    learner = new_learner(options, prepared, prepared.train, make_console())
    points = []
    for epoch in range(1, epochs + 1):
        loss = learner.advance(prepared.train, to=epoch * learner.steps_per_epoch, on_step=lambda *_: None)
        by = {measure: validate(learner.averaged, prepared.validation, measure) for measure in MEASURES}
        points.append({"train_loss": loss, "validation": by, "apart": validate(learner.averaged, scored)})
    return points


def rows_of(runs: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """For each rule and set, over the seeds: points of accuracy lost to the best of the whole run, and epochs made."""
    for rule, (measure, stopping) in RULES.items():
        for name in dict.fromkeys(run["set"] for run in runs):
            curves = [run["curve"] for run in runs if run["set"] == name]
            found = [_stopped(curve, measure, stopping) for curve in curves]
            to_the_end = [_stopped(curve, measure, None) for curve in curves]
            lost = [end[0] - here[0] for here, end in zip(found, to_the_end, strict=True)]
            yield {
                "rule": rule,
                "set": name,
                "accuracy": mean(here[0] for here in found),
                "lost": mean(lost),
                "saved": mean(1 - here[1] / len(curve) for here, curve in zip(found, curves, strict=True)),
            }


def _stopped(curve: Sequence[Mapping[str, Any]], measure: str, stopping: EarlyStopping | None) -> tuple[float, int]:
    """The accuracy, on the part kept apart, of the epoch that would be chosen, and the epochs made."""
    history = [
        evaluation({**point["validation"][measure], "train_loss": point["train_loss"]}, measure) for point in curve
    ]
    made = len(history)
    if stopping is not None:
        made = next((made for made in range(1, made + 1) if stopping.reason(history[:made])), made)
    return curve[best(history[:made]) - 1]["apart"]["accuracy"], made


def section(result: Mapping[str, Any]) -> str:
    """The part of docs/notes-measured.md."""
    sets = list(dict.fromkeys(row["set"] for row in result["rows"]))
    rows, means = [], {}
    for rule in RULES:
        of_rule = {row["set"]: row for row in result["rows"] if row["rule"] == rule}
        cells = [f"{100 * of_rule[name]['lost']:+.2f}, {of_rule[name]['saved']:.0%}" for name in sets]
        means[rule] = (mean(row["lost"] for row in of_rule.values()), mean(row["saved"] for row in of_rule.values()))
        rows.append((rule, *cells, f"{100 * means[rule][0]:+.2f}, {means[rule][1]:.0%}"))
    chosen = means["loss, last 3"]
    verdict = "holds" if chosen[0] < 0.01 and chosen[1] > 0.3 else "does not hold"
    return (
        f"{markdown(('rule', *sets, 'mean'), rows)}\n\n"
        f"Points of accuracy lost and share of {result['epochs']} epochs saved, beside the best epoch of the whole "
        "run by "
        f"the same score, on texts kept apart; mean of {result['seeds']} seeds. A minus is a gain.\n\n"
        f"**Verdict: {verdict}.** Stopping when the last 3 evaluations brought no lower validation loss loses "
        f"{100 * chosen[0]:.2f} points and saves {chosen[1]:.0%} of the time."
    )


if __name__ == "__main__":
    run_command(main)
