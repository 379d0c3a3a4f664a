import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Refused
from training import compare, compare_report, compare_runs
from training.compare_classes import FORMS, by_classes, extremes

SMALL = ("--seeds", "2", "--epochs", "2", "--steps", "9", "--classes", "2", "50", "--device", "cpu")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `python -m training.compare` leaves for the sample set, cut short."""
    folder = tmp_path_factory.mktemp("compare") / "out"
    arguments, data = sys.argv, os.environ.pop("NLP_APP_DATA", None)
    sys.argv = ["compare", *SMALL, "--output", str(folder)]
    try:
        assert compare.main() == 0
    finally:
        sys.argv = arguments
        if data is not None:
            os.environ["NLP_APP_DATA"] = data
    for name in ("steps", "scores", "classes", "extremes"):
        assert (folder / f"{name}.png").stat().st_size > 5000
    values: dict[str, Any] = json.loads((folder / compare.RESULT).read_text())
    return values


def test_the_losses_take_the_same_steps_up_to_rounding(result: dict[str, Any]) -> None:
    for precision, limit in (("float64", 1e-12), ("float32", 1e-4), ("bfloat16", 0.2)):
        steps = result["steps"][precision]
        assert len(steps) == 9
        for key in ("loss", "gradient", "logits"):
            assert max(step[key] for step in steps) <= limit


def test_every_seed_is_scored_and_its_bits_compared(result: dict[str, Any]) -> None:
    (row,) = result["scores"]
    assert row["set"] == "the sample set"
    assert row["bit_equal"] == row["seeds"] == 2
    for runs in row["runs"].values():
        assert len(runs) == 2
        assert all(0 < run["accuracy"] < 1 for run in runs)
    assert row["paired"]["accuracy"] == 0
    assert row["runs"]["nll"][0]["accuracy"] != row["runs"]["nll"][1]["accuracy"]


def test_time_and_memory_are_told_for_each_number_of_classes(result: dict[str, Any]) -> None:
    assert [(row["classes"], row["form"]) for row in result["classes"]] == [
        (classes, form) for classes in (2, 50) for form in FORMS
    ]
    assert all(row["seconds"] > 0 and row["bytes"] >= 64 * row["classes"] * 4 for row in result["classes"])


def test_the_report_says_that_the_bits_are_the_same(result: dict[str, Any]) -> None:
    text = compare_report.section(result)
    assert "in all 2 pairs of runs the chosen weights are the same bits, so there is no difference to test" in text
    assert "**Verdict: holds.**" in text
    assert "| the sample set |" in text


def test_the_report_takes_the_spread_over_seeds_as_the_scale(result: dict[str, Any]) -> None:
    row = result["scores"][0]
    apart = {**row, "bit_equal": 0, "paired": {**row["paired"], "accuracy": 0.5}}
    text = compare_report.verdict({**result, "scores": [apart]})
    assert "**Verdict: does not hold.**" in text
    assert "the mean difference of accuracy is 50.00 points at most, beside a spread over seeds" in text


def test_only_the_naive_form_breaks_at_extreme_logits() -> None:
    rows = extremes()
    for row in rows:
        if row["form"] != "naive":
            assert row["gradient"] == "finite"
            assert row["loss"] == pytest.approx(row["true"], rel=0.01 if row["precision"] == "bfloat16" else 1e-6)
    broken = {
        (row["precision"], row["size"]) for row in rows if row["gradient"] == "nan" or isinstance(row["loss"], str)
    }
    assert {("float32", 1e3), ("bfloat16", 1e3), ("float64", 1e3)} <= broken
    assert ("float32", 1.0) not in broken


def test_classes_are_measured_forward_and_back() -> None:
    row = by_classes(torch.device("cpu"), [10])[0]
    assert math.isfinite(row["seconds"])
    assert row["time"] == 1


def test_a_softmax_taken_twice_would_be_seen(train_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nlp_app.model import TextClassifier

    ending = TextClassifier.ending

    def twice(self: TextClassifier, logits: torch.Tensor) -> torch.Tensor:
        done = ending(self, logits)
        return torch.log_softmax(done.exp(), dim=1) if self.config.output == "log_probabilities" else done

    monkeypatch.setattr(TextClassifier, "ending", twice)
    found = compare_runs.steps(train_csv, torch.device("cpu"), count=2)["float64"]
    assert max(step["gradient"] for step in found) > 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", "0"), "--seeds is 0, but must be 1 or more"),
        (("--steps", "0"), "--steps is 0, but must be 1 or more"),
        (("--classes", "1"), "--classes is 1, but must be 2 or more"),
        (("--epochs", "0"), "--epochs is 0, but must be from 1"),
        (("--data", "nowhere"), "there is no file nowhere/trec6/train.csv.gz: name sets with --sets"),
        (("--train", "nowhere.csv"), "there is no file nowhere.csv"),
        (("--device", "tpu"), "--device is 'tpu', but must be auto, cpu, cuda"),
    ],
)
def test_refuses(refused: Refused, arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    assert message in refused(compare.main, *arguments, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_refuses_an_output_that_is_a_file(refused: Refused, train_csv: Path) -> None:
    assert "is a file: name a folder" in refused(compare.main, "--train", train_csv, "--output", train_csv)
