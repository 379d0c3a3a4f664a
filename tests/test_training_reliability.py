import errno
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from nlp_app import Predictor
from nlp_app.errors import OutputError
from tests.conftest import ROW_LABELS, TEXTS, Refused, write_checkpoint, write_csv
from tests.test_training_run import SMALL
from training import evaluate, run
from training.calibration import BINS, bins, calibration_error, error_of
from training.reliability import plot_reliability

SCORES = torch.tensor([0.05, 0.55, 0.56, 0.99, 1.0])
RIGHT = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0])


def test_bins_hold_each_text_once() -> None:
    count, score, share = bins(SCORES, RIGHT)
    assert count.nonzero().flatten().tolist() == [0, 8, 14]
    assert count[[0, 8, 14]].tolist() == [1, 2, 2]
    assert score[[0, 8, 14]].tolist() == pytest.approx([0.05, 0.555, 0.995])
    assert share[[0, 8, 14]].tolist() == [0, 0.5, 1]
    assert len(count) == BINS


def test_the_error_is_that_of_the_bins() -> None:
    by_hand = (1 * 0.05 + 2 * 0.055 + 2 * 0.005) / 5
    assert error_of(SCORES, RIGHT) == pytest.approx(by_hand, abs=1e-6)
    probabilities = torch.stack([SCORES, torch.zeros(5), 1 - SCORES], dim=1)
    probabilities[0] = torch.tensor([0.05, 0.0, 0.04])
    targets = torch.where(RIGHT.bool(), 0, 1)
    assert calibration_error(probabilities, targets) == pytest.approx(by_hand, abs=1e-6)
    assert error_of(SCORES[:0], RIGHT[:0]) == 0


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("b.SVG", b"<?xml")])
def test_draws_either_kind_the_same_each_time(tmp_path: Path, name: str, start: bytes) -> None:
    drawn = []
    for _ in range(2):
        plot_reliability(tmp_path / name, SCORES, RIGHT, title="five")
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0].startswith(start)
    assert drawn[0] == drawn[1]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_title_has_the_texts_and_the_error(tmp_path: Path) -> None:
    plot_reliability(tmp_path / "plot.svg", SCORES, RIGHT, title="five")
    assert f"five: 5 texts, calibration error {error_of(SCORES, RIGHT):.3f}" in (tmp_path / "plot.svg").read_text()


def test_evaluate_draws_the_answers(
    shared_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "data.csv", zip(TEXTS, ROW_LABELS, strict=True))
    arguments = ["--checkpoint", shared_checkpoint, "--data", data, "--reliability-plot", tmp_path / "plot.svg"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments), "--json"])
    assert evaluate.main() == 0
    found = Predictor.load(shared_checkpoint).predict(TEXTS)
    right = [one.label == label for one, label in zip(found, ROW_LABELS, strict=True)]
    error = error_of(torch.tensor([one.score for one in found]), torch.tensor(right))
    assert f"data.csv: 6 texts, calibration error {error:.3f}" in (tmp_path / "plot.svg").read_text()
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(sum(right) / 6)


def unwritable(**_: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_refuses_a_plot_in_the_place_of_the_model(train_csv: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "out").mkdir()
    for output, plot in (("out", "out/plot.png"), ("plot.png", "plot.png")):
        flags = ("--output", tmp_path / output, "--reliability-plot", tmp_path / plot, "--overwrite")
        message = refused(run.main, "--train", train_csv, *flags)
        assert f"plot.png lies in --output {tmp_path / output}, which is for the checkpoint alone: name a" in message


def test_a_plot_that_fails_after_all_loses_nothing(
    train_csv: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path, *_: object, **__: object) -> None:
        raise OutputError(f"{path} cannot be written: Input/output error")

    monkeypatch.setattr(run, "plot_reliability", failing)
    output, plot = tmp_path / "out", tmp_path / "plot.png"
    message = refused(run.main, *SMALL, "--train", train_csv, "--output", output, "--reliability-plot", plot)
    assert f"the model was saved in {output}, but not drawn: {plot} cannot be written: Input/output error" in message
    assert Predictor.load(output)


def test_refuses_a_name_before_it_works(
    shared_checkpoint: Path, train_csv: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.png").mkdir()
    write_checkpoint(tmp_path / "other")
    monkeypatch.setattr(tempfile, "TemporaryFile", unwritable)
    for name, message in {
        "plot.png": "plot.png cannot be written: Read-only file system",
        "other/plot.png": f"other/plot.png lies in the checkpoint {tmp_path / 'other'}: name a place outside of it",
        "plot.pdf": "plot.pdf must end in .png or .svg",
        "absent/plot.png": "there is no folder",
        "folder.png": "folder.png is no regular file",
    }.items():
        flag = ("--reliability-plot", tmp_path / name)
        common = ("--checkpoint", shared_checkpoint, "--data", train_csv)
        assert message in refused(evaluate.main, *common, *flag)
        if name.endswith("/plot.png"):
            assert message in refused(evaluate.main, *common, "--errors", tmp_path / name)
        assert message in refused(run.main, "--train", train_csv, "--output", tmp_path / "out", *flag)
    assert not (tmp_path / "out").exists()
