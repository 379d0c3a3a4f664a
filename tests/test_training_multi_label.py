"""Texts with several labels or none, from the file to the answer over HTTP."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nlp_app import Predictor
from nlp_app.checkpoint import load_checkpoint
from nlp_app.model import NgramBranch
from serving.app import create_app
from tests.conftest import Refused
from tests.test_serving_app import settings, wait_until_loaded
from training import evaluate, linear, run
from training.data import read_examples
from training.linear import fit_branch

TOPICS = {"cold": "ice snow frost", "hot": "fire sun burn", "wet": "rain sea river"}
SETS: list[tuple[str, ...]] = [("cold",), ("hot",), ("wet",), ("cold", "wet"), ("hot", "wet"), ()]


def rows(count: int = 20) -> list[dict[str, object]]:
    return [
        {"text": f"{' '.join(TOPICS[label] for label in labels) or 'nothing at all'} day {number}", "labels": labels}
        for number in range(count)
        for labels in SETS
    ]


def write(path: Path, lines: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def train_main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def main(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["run", *map(str, arguments)])
        return run.main()

    return main


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    files = [write(folder / "train.jsonl", rows()), write(folder / "test.jsonl", rows(2))]
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["--train", files[0], "--test", files[1], "--output", folder / "model", "--epochs", 12]
        patch.setattr(sys, "argv", ["run", *map(str, arguments)])
        assert run.main() == 0
    return folder


def test_learns_the_labels_of_each_text(trained: Path) -> None:
    predictor = Predictor.load(trained / "model")
    assert predictor.checkpoint.config.multi_label
    assert len(predictor.checkpoint.decision.thresholds) == 3
    both, none = predictor.predict(["ice snow frost and rain sea river", "nothing at all"], top_k=3)
    assert set(both.labels or ()) == {"cold", "wet"}
    assert none.labels == ()
    assert none.score == none.scores[0].score == max(score.score for score in none.scores)
    assert sum(score.score for score in both.scores) > 1.2, "each label has a probability of its own"
    metrics = json.loads((trained / "model" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.9, "exact match"
    assert metrics["test"]["micro_f1"] > 0.95
    low, high = metrics["test"]["intervals"]["micro_f1"]
    assert low <= metrics["test"]["micro_f1"] <= high


def test_evaluate_gives_what_the_run_gave(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        errors = trained / "errors.csv"
        arguments = ["--checkpoint", trained / "model", "--data", trained / "test.jsonl", "--json", "--errors", errors]
        patch.setattr(sys, "argv", ["evaluate", *map(str, arguments)])
        assert evaluate.main() == 0
    found = json.loads(capsys.readouterr().out)
    metrics = json.loads((trained / "model" / "metrics.json").read_text())["test"]
    assert {name: found[name] for name in ("accuracy", "macro_f1", "micro_f1")} == pytest.approx(
        {name: metrics[name] for name in ("accuracy", "macro_f1", "micro_f1")}
    )
    assert len(errors.read_text().splitlines()) - 1 == round((1 - found["accuracy"]) * found["texts"])


def test_the_server_tells_the_labels(trained: Path) -> None:
    texts = ["ice snow frost and rain sea river", "nothing at all"]
    expected = [one.to_json() for one in Predictor.load(trained / "model").predict(texts)]
    with TestClient(create_app(settings(trained / "model"))) as client:
        wait_until_loaded(client)
        answer = client.post("/predict", json={"inputs": texts}).json()
    assert [one["labels"] for one in answer["predictions"]] == [one["labels"] for one in expected]
    assert answer["predictions"][1]["labels"] == []


def test_a_separator_makes_lists_of_a_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nx,a; b\ny,\nz,b;b\n")
    examples = read_examples(path, text_columns=["text"], separator=";")
    assert examples.labels == [("a", "b"), (), ("b",)]
    assert examples.multi_label


@pytest.mark.parametrize(
    ("lines", "arguments", "message"),
    [
        ([["a"], "b"], (), "rows.jsonl:2: 'labels' is a text, where other rows have a list: write ['b']"),
        ([["a"], [" "]], (), "rows.jsonl:2: 'labels' holds a blank label: name it or remove it"),
        ([["a", "b;c"]], ("--label-separator", ";"), "the label 'b;c' has the separator ';' in it: a list needs no"),
        ([["a"], ["a"]], (), "the only label is 'a': a classifier needs at least two labels"),
        ([[], []], (), "no row has a label: a classifier needs at least two labels"),
        ([["a"], ["b"], {"c": 1}], (), "rows.jsonl:3: 'labels' is a JSON object, but must be a text"),
        ([["a"], [["b"]]], (), "rows.jsonl:2: 'labels' holds a JSON array, but must hold texts"),
        ([["a"], ["b"]] * 9, ("--loss", "nll"), "--loss nll is for one label a text"),
        ([["a"], ["b"]] * 9, ("--focal-gamma", "2"), "--focal-gamma is for one label a text"),
    ],
)
def test_refuses_what_is_wrong_with_lists(
    refused: Refused, tmp_path: Path, lines: list[object], arguments: tuple[str, ...], message: str
) -> None:
    path = write(tmp_path / "rows.jsonl", [{"text": f"x {n}", "labels": line} for n, line in enumerate(lines)])
    output = tmp_path / "out"
    assert message in refused(run.main, "--train", path, "--output", output, *arguments)
    assert not output.exists()


def test_refuses_validation_texts_of_the_other_kind(refused: Refused, tmp_path: Path) -> None:
    lists = write(tmp_path / "lists.jsonl", rows(2))
    single = write(tmp_path / "single.jsonl", [{"text": "x", "label": "cold"}, {"text": "y", "label": "hot"}])
    message = refused(run.main, "--train", lists, "--validation", single, "--output", tmp_path / "out")
    assert "lists.jsonl holds lists of labels, but" in message
    assert "single.jsonl one label a text: write both alike" in message


def test_rows_with_no_label_are_told(
    train_main: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "rows.jsonl", rows(3))
    train_main("--train", path, "--output", tmp_path / "out", "--epochs", 1)
    assert "3 rows with no label, kept as examples of none: line 6, line 12, line 18" in " ".join(
        capsys.readouterr().out.split()
    )


def test_one_label_a_text_is_not_measured_on_lists(refused: Refused, train_csv: Path, tmp_path: Path) -> None:
    test = write(tmp_path / "test.jsonl", rows(1))
    message = refused(run.main, "--train", train_csv, "--test", test, "--output", tmp_path / "out", "--epochs", 1)
    assert "but not tested" in message
    assert "has lists of labels, but the model gives one label a text" in message


@pytest.mark.parametrize("refit", ["never", "always"])
def test_ctrl_c_in_the_folds_of_a_resumed_run_that_had_no_step_left(
    train_main: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit: str
) -> None:
    common = ("--train", write(tmp_path / "train.jsonl", rows()), "--epochs", 2, "--refit", refit)
    assert train_main(*common, "--output", tmp_path / "whole") == 0
    broken = (*common, "--output", tmp_path / "broken")
    with monkeypatch.context() as patch:
        patch.setattr(run, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_main(*broken)

    def fit(*arguments: Any, **values: Any) -> NgramBranch:
        os.kill(os.getpid(), signal.SIGINT)
        return fit_branch(*arguments, **values)

    with monkeypatch.context() as patch:
        patch.setattr(linear, "fit_branch", fit)
        assert train_main(*broken, "--resume") == 0
    told = json.loads((tmp_path / "broken" / "metrics.json").read_text())["train"]
    assert told["stopped_because"] == "interrupted by the user"
    assert train_main(*broken, "--resume") == 0
    assert load_checkpoint(tmp_path / "broken").version == load_checkpoint(tmp_path / "whole").version


def test_the_convolution_alone_has_thresholds_by_its_own_scores(tmp_path: Path, train_main: Callable[..., int]) -> None:
    common = ("--train", write(tmp_path / "train.jsonl", rows()), "--epochs", 2, "--refit", "never")
    alone = []
    for folds in (0, 3):
        assert train_main(*common, "--output", tmp_path / str(folds), "--threshold-folds", folds) == 0
        alone.append(json.loads((tmp_path / str(folds) / "metrics.json").read_text())["validation"]["alone"])
    assert alone[0]["convolution alone"] == alone[1]["convolution alone"]
