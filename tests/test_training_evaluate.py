import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from nlp_app import Predictor
from tests.conftest import ROW_LABELS, TEXTS, Refused, write_csv
from training import evaluate


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "data.csv", zip(TEXTS, ROW_LABELS, strict=True))


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments)])
    assert evaluate.main() == 0
    return capsys.readouterr().out


def test_json_has_every_figure(
    shared_checkpoint: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values: dict[str, Any] = json.loads(
        run(monkeypatch, capsys, "--checkpoint", shared_checkpoint, "--data", data, "--json")
    )
    predictions = Predictor.load(shared_checkpoint).predict(TEXTS)
    right = [prediction.label == label for prediction, label in zip(predictions, ROW_LABELS, strict=True)]
    assert values["texts"] == len(TEXTS)
    assert values["accuracy"] == pytest.approx(sum(right) / len(right))
    assert set(values["per_class"]) == {"cold", "warm", "hot"}
    assert set(values["per_class"]["hot"]) == {"precision", "recall", "f1", "texts"}
    assert {"macro_precision", "macro_recall", "macro_f1"} <= set(values)
    assert sum(map(sum, values["confusion"]["counts"])) == len(TEXTS)


def test_tables_show_scores_classes_and_the_matrix(
    shared_checkpoint: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = run(monkeypatch, capsys, "--checkpoint", shared_checkpoint, "--data", data)
    for words in ("texts 6", "accuracy 0.", "precision", "macro", "Confusion matrix", "true \\ predicted"):
        assert words in screen


def test_many_labels_list_the_cells_instead_of_a_matrix(
    shared_checkpoint: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "MATRIX_LABELS", 2)
    screen = run(monkeypatch, capsys, "--checkpoint", shared_checkpoint, "--data", data)
    assert "Confusion matrix, the cells off the diagonal" in screen


def test_errors_are_the_wrong_answers_most_confident_first(
    shared_checkpoint: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    errors = tmp_path / "errors.csv"
    run(monkeypatch, capsys, "--checkpoint", shared_checkpoint, "--data", data, "--errors", errors)
    with errors.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    predictions = Predictor.load(shared_checkpoint).predict(TEXTS)
    expected = [
        (str(line), text, label, prediction.label, prediction.score)
        for line, (text, label, prediction) in enumerate(zip(TEXTS, ROW_LABELS, predictions, strict=True), start=2)
        if prediction.label != label
    ]
    assert expected, "a model that was not trained makes errors"
    found = [(row["line"], row["text"], row["label"], row["predicted"], float(row["score"])) for row in rows]
    assert found == sorted(expected, key=lambda row: -row[4])


def test_a_label_unknown_to_the_model_is_wrong_and_said(
    shared_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "data.csv", [("snow", "mild")])
    screen = run(monkeypatch, capsys, "--checkpoint", shared_checkpoint, "--data", data)
    assert "warning: labels that the model does not know, all counted as wrong: ['mild']" in screen
    assert "accuracy 0.0000" in screen


def test_refuses_broken_input(shared_checkpoint: Path, tmp_path: Path, data: Path, refused: Refused) -> None:
    common = ("--checkpoint", shared_checkpoint, "--data")
    assert "there is no file" in refused(evaluate.main, *common, tmp_path / "absent.csv")
    empty = write_csv(tmp_path / "empty.csv", [("x", "")])
    assert "empty.csv:2: the row has no 'label'" in refused(evaluate.main, *common, empty)
    absent = tmp_path / "absent" / "errors.csv"
    assert f"--errors {absent}: there is no folder {absent.parent}: make it first" in refused(
        evaluate.main, *common, data, "--errors", absent
    )
    assert "there is no checkpoint" in refused(evaluate.main, "--checkpoint", tmp_path / "none", "--data", data)


def test_errors_never_take_the_place_of_something_else(
    shared_checkpoint: Path, data: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    common = ("--checkpoint", shared_checkpoint, "--data", data, "--errors")
    before = data.read_bytes()
    assert "is the --data file, which it would replace" in refused(evaluate.main, *common, data)
    assert data.read_bytes() == before
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert "is no regular file" in refused(evaluate.main, *common, path)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    run(monkeypatch, capsys, *common, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text().startswith("line,text,label")


def test_refuses_an_empty_separator(refused: Refused, shared_checkpoint: Path, data: Path) -> None:
    message = refused(evaluate.main, "--checkpoint", shared_checkpoint, "--data", data, "--label-separator", "")
    assert "--label-separator is empty: give it a value, or leave it out" in message
