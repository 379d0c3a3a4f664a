import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.conftest import Refused
from training import compare, compare_classes, compare_report, compare_runs
from training.assemble import new_learner
from training.compare_classes import CONTROL, FORMS, by_classes, extremes
from training.options import Options
from training.prepare import prepare

SMALL = ("--seeds", "2", "--epochs", "2", "--steps", "9", "--classes", "2", "50", "--device", "cpu")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two wait for each other on tensors as small as these: beside other work the tests took 80 s in place of 17."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> dict[str, Any]:
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
        for step in steps:
            assert step["same_bits"] == (step["loss"] == step["gradient_absolute"] == step["logits"] == 0)


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
        (classes, form) for classes in (2, 50) for form in (*FORMS, CONTROL)
    ]
    assert all(row["seconds"] > 0 and row["bytes"] >= 64 * row["classes"] * 4 for row in result["classes"])


def test_a_form_has_the_same_peak_whatever_was_measured_before_it() -> None:
    """log_softmax, and the gradients of its output and its input: three tensors of (B, C) for both losses."""
    for row in by_classes(torch.device("cpu"), [1000]):
        assert row["bytes"] == pytest.approx(3 * 64 * 1000 * 4, rel=0.01), row["form"]
        assert row["memory"] == pytest.approx(1, rel=0.01), row["form"]


def test_the_figures_tell_where_they_come_from(result: dict[str, Any]) -> None:
    assert result["device"] == "cpu"
    assert result["device_name"]
    assert (result["seeds"], result["epochs"], result["sets"]) == (2, 2, ["the sample set"])
    assert {"torch", "python"} <= result["versions"].keys()


def test_the_report_says_that_the_bits_are_the_same(result: dict[str, Any]) -> None:
    text = compare_report.section(result)
    assert "in all 2 pairs of runs the chosen weights are the same bits, so there is no difference to test" in text
    assert "**Verdict: holds.**" in text
    assert "| the sample set |" in text


def test_the_report_takes_the_spread_over_seeds_as_the_scale(result: dict[str, Any]) -> None:
    row = result["scores"][0]
    apart = {**row, "bit_equal": 0, "paired": {**row["paired"], "accuracy": 0.5}}
    text = compare_report.verdict({**result, "scores": [apart]})
    assert "**Verdict: does not hold.** Cross-entropy" in text
    assert (
        "the largest mean difference of accuracy is 50.00 points on the sample set, beside a spread over seeds" in text
    )
    near = {**apart, "paired": {**row["paired"], "accuracy": row["spread"]["accuracy"]["nll"] / 2}}
    assert "**Verdict: holds.** Cross-entropy" in compare_report.verdict({**result, "scores": [near]})
    assert "**Verdict: does not hold.** Cross" in compare_report.verdict({**result, "scores": [near, apart]})


def test_the_report_gives_softmax_and_log_the_verdict_of_the_naive_form(result: dict[str, Any]) -> None:
    text = compare_report.verdict(result)
    assert text.startswith("**Verdict: holds only when** softmax and log are one function.")
    assert "from logits of 50 on in float32, where both losses are right up to 1e+30" in text
    sound = [{**row, "loss": row["true"], "gradient": "finite"} for row in result["extremes"]]
    assert compare_report.verdict({**result, "extremes": sound}).startswith("**Verdict: holds.** ")
    wrong = [{**row, "error": 0.5} for row in result["extremes"]]
    assert compare_report.verdict({**result, "extremes": wrong}).startswith("**Verdict: does not hold.** ")


def test_the_steps_are_those_of_training(train_csv: Path) -> None:
    """The learner of the differences is the one that training.run would make, at every precision."""
    prepared = prepare(Options(train=train_csv), Console(quiet=True))
    one = new_learner(Options(train=train_csv), prepared, prepared.train, Console(quiet=True))
    other = compare_runs._learner(prepared, train_csv, "nll", "float32", torch.device("cpu"))
    for learner in (one, other):
        learner.advance(prepared.train, to=3, on_step=lambda _, __: None)
    assert one.optimizer.defaults == other.optimizer.defaults
    for name, tensor in one.module.state_dict().items():
        torch.testing.assert_close(other.module.state_dict()[name], tensor)


EPSILONS = {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float64": 2.0**-52}


def test_only_the_naive_form_breaks_at_extreme_logits() -> None:
    rows = {(row["precision"], row["size"], row["form"]): row for row in extremes(torch.device("cpu"))}
    for (precision, size, form), row in rows.items():
        if form != "naive":
            assert row["gradient"] == "finite"
            assert row["error"] <= EPSILONS[precision]
            assert row["gradient_error"] <= EPSILONS[precision]
            assert row["loss"] == rows[precision, size, "cross-entropy"]["loss"]
    broken = {place for place, row in rows.items() if row["gradient"] == "nan" or isinstance(row["loss"], str)}
    assert {(precision, 1e3, "naive") for precision in EPSILONS} <= broken
    assert ("float32", 1.0, "naive") not in broken


def test_the_truth_at_extreme_logits_is_that_of_the_formula() -> None:
    """By hand at (1, -1, 0): p = (e, 1/e, 1) / (e + 1/e + 1) and the loss is -log p[1]."""
    row = extremes(torch.device("cpu"))[0]
    assert (row["size"], row["precision"]) == (1.0, "float32")
    assert row["true"] == pytest.approx(math.log(math.e + 1 / math.e + 1) + 1, rel=1e-15)


def test_classes_are_measured_forward_and_back() -> None:
    row = by_classes(torch.device("cpu"), [10])[0]
    assert math.isfinite(row["seconds"])
    assert row["time"] == 1


def test_each_form_has_its_own_seconds_in_whatever_place_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def median_seconds(works: list[Any], device: torch.device, *, rounds: int) -> list[float]:
        asked.append(works)
        return [2.0 ** asked[0].index(work) for work in works]

    monkeypatch.setattr(compare_classes, "median_seconds", median_seconds)
    rows = by_classes(torch.device("cpu"), [10])
    assert [row["seconds"] for row in rows] == [1, 2, 4, 8]
    assert all(row["time"] == row["time_low"] == row["time_high"] == row["seconds"] for row in rows)
    places = [[asked[0].index(work) for work in works] for works in asked]
    for column in zip(*places, strict=True):
        assert Counter(column) == dict.fromkeys(range(4), len(asked) // 4)
    followers = Counter((before, after) for order in places for before, after in pairwise(order))
    assert set(followers) == {(one, other) for one in range(4) for other in range(4) if one != other}
    assert len(set(followers.values())) == 1  # no form always has the same one before it


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


def test_refuses_texts_with_several_labels_before_it_trains(refused: Refused, train_csv: Path, tmp_path: Path) -> None:
    several = tmp_path / "set" / "train.jsonl"
    several.parent.mkdir()
    several.write_text('{"text": "hot and cold", "label": ["hot", "cold"]}\n' * 8)
    message = refused(compare.main, "--train", train_csv, several, "--output", tmp_path / "out")
    assert f"{several} has lists of labels, but the losses compared are of one label a text" in message
    assert message == refused(compare.main, "--data", tmp_path, "--sets", "set", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_of_one_name_are_all_compared(tmp_path: Path, train_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other" / "train.csv"
    other.parent.mkdir()
    other.write_bytes(train_csv.read_bytes())
    small = ("--seeds", "1", "--epochs", "1", "--steps", "1", "--classes", "2", "--device", "cpu")
    output = str(tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["compare", "--train", str(train_csv), str(other), *small, "--output", output])
    assert compare.main() == 0
    values = json.loads((tmp_path / "out" / compare.RESULT).read_text())
    assert values["sets"] == [row["set"] for row in values["scores"]] == [str(train_csv), str(other)]


def test_refuses_an_output_in_a_file_before_it_trains(refused: Refused, train_csv: Path) -> None:
    assert "cannot be written" in refused(compare.main, "--train", train_csv, "--output", train_csv / "out")


def test_refuses_an_output_that_is_a_file(refused: Refused, train_csv: Path) -> None:
    assert "is a file: name a folder" in refused(compare.main, "--train", train_csv, "--output", train_csv)


def test_refuses_an_output_in_a_checkpoint(refused: Refused, train_csv: Path, checkpoint: Path) -> None:
    message = refused(compare.main, "--train", train_csv, "--output", checkpoint)
    assert f"compare.json lies in the checkpoint {checkpoint}: name a place outside of it" in message
