"""Texts unlike those of the training, from the threshold to the answer over HTTP."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from nlp_app import Predictor
from nlp_app.encoding import encode
from nlp_app.scoring import familiarity
from serving.app import create_app
from tests.conftest import ROW_LABELS, TEXTS, Refused, make_module, make_tokenizer, write_csv
from tests.test_serving_app import settings, wait_until_loaded
from tests.test_training_data import examples
from training import evaluate, run
from training.batches import Dataset
from training.calibration import Calibration
from training.combine import combine
from training.linear import fit_branch

USUAL = [f"{text} 3" for text in TEXTS]
STRANGE = ["Quelle heure est-il, monsieur?", "zxqj kvwp yyfg", ""]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with as many validation texts as a threshold needs, and the files that it was measured on."""
    folder = tmp_path_factory.mktemp("scope")
    rows = [(f"{text} {number}", label) for number in range(20) for text, label in zip(TEXTS, ROW_LABELS, strict=True)]
    train, validation = write_csv(folder / "train.csv", rows[:60]), write_csv(folder / "validation.csv", rows[60:])
    strange = write_csv(folder / "strange.csv", [(f'"{text}"',) for text in STRANGE], header=["text"])
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["--train", train, "--validation", validation, "--test", train, "--out-of-scope", strange]
        arguments += ["--output", folder / "model", "--reliability-plot", folder / "plot.svg"]
        arguments += ["--epochs", 2, "--embedding-dim", 8, "--num-filters", 4]
        patch.setattr(sys, "argv", ["run", *map(str, arguments)])
        assert run.main() == 0
    return folder


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "model" / "metrics.json").read_bytes())
    return found


def test_familiarity_is_the_share_of_n_grams_that_were_trained_on() -> None:
    tokenizer = make_tokenizer()
    module = make_module(tokenizer, ngram_slots=1 << 12, ngram_orders=(2, 3))
    data = Dataset.of(examples(list(ROW_LABELS), TEXTS), tokenizer=tokenizer, config=module.config)
    branch = fit_branch(data, module.config, class_weights=None)
    whole = combine(module, branch, Calibration(scales=(1.0, 1.0)))
    encoded = encode([*TEXTS, *STRANGE], tokenizer=tokenizer, config=whole.config)
    found = familiarity(whole, encoded)
    has_row = branch.rows.numpy() > 0
    assert found.tolist() == pytest.approx([has_row[one.ngrams.slots].mean() for one in encoded])
    assert found[: len(TEXTS)].min() > found[len(TEXTS) : -1].max()
    assert torch.equal(found, torch.cat([familiarity(whole, [one]) for one in encoded])), "alone as beside others"
    assert familiarity(whole, []).tolist() == []


def test_a_model_without_n_grams_calls_nothing_out_of_scope(shared_checkpoint: Path) -> None:
    for one in Predictor.load(shared_checkpoint).predict(STRANGE):
        assert not one.out_of_scope
        assert one.familiarity == 1


def test_tells_strangers_from_texts_of_its_kind(trained: Path) -> None:
    predictor = Predictor.load(trained / "model")
    least = predictor.checkpoint.decision.min_familiarity
    assert 0 < least < 1
    predictions = predictor.predict([*STRANGE[:2], *USUAL])
    assert [one.out_of_scope for one in predictions] == [True] * 2 + [False] * len(USUAL)
    assert [one.familiarity < least for one in predictions] == [one.out_of_scope for one in predictions]
    assert predictions[0].to_json()["out_of_scope"] is True
    assert "out_of_scope" not in predictions[-1].to_json()


def test_metrics_have_the_threshold_and_the_shares(trained: Path) -> None:
    scope = metrics(trained)["out_of_scope"]
    predictor = Predictor.load(trained / "model")
    flagged = [one.out_of_scope for one in predictor.predict(STRANGE)]
    assert scope["min_familiarity"] == predictor.checkpoint.decision.min_familiarity
    assert 0 <= scope["validation"] <= 0.05
    assert scope["test"] == 0
    assert scope["strangers"] == pytest.approx(sum(flagged) / len(flagged))


def test_evaluate_gives_what_the_run_gave(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", trained / "model", "--data", trained / "train.csv"]
    arguments += ["--out-of-scope", trained / "strange.csv"]
    scope = metrics(trained)["out_of_scope"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments), "--json"])
    evaluate.main()
    found = json.loads(capsys.readouterr().out)["out_of_scope"]
    assert found == pytest.approx({"texts": scope["test"], "strangers": scope["strangers"]})
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments)])
    evaluate.main()
    told = f"called out of scope: {scope['test']:.1%} of the texts, {scope['strangers']:.1%} of the strangers"
    assert told in capsys.readouterr().out


def test_the_server_tells_it(trained: Path) -> None:
    with TestClient(create_app(settings(trained / "model"))) as client:
        wait_until_loaded(client)
        strange, usual = client.post("/predict", json={"inputs": [STRANGE[0], USUAL[0]]}).json()["predictions"]
    assert strange["out_of_scope"] is True
    assert "out_of_scope" not in usual


def test_a_run_draws_the_texts_that_it_was_measured_on(trained: Path) -> None:
    plot = (trained / "plot.svg").read_text()
    assert "test: 60 texts, calibration error" in plot


def test_strangers_that_cannot_be_read_lose_nothing(refused: Refused, train_csv: Path, tmp_path: Path) -> None:
    common = ("--train", train_csv, "--output", tmp_path / "out", "--epochs", 1)
    assert "there is no file" in refused(run.main, *common, "--out-of-scope", tmp_path / "absent.csv")
    assert not (tmp_path / "out").exists()
    empty = write_csv(tmp_path / "empty.csv", [])
    message = refused(run.main, *common, "--out-of-scope", empty)
    assert f"the model was saved in {tmp_path / 'out'}, but not tried on the texts out of scope: {empty}" in message
    assert "holds no text" in message
    assert "not tested" not in message
    predictor = Predictor.load(tmp_path / "out")
    assert predictor.checkpoint.decision.min_familiarity == 0, "3 validation texts give no threshold"
    evaluated = ("--checkpoint", tmp_path / "out", "--data", train_csv, "--out-of-scope", empty)
    assert "empty.csv holds no text" in refused(evaluate.main, *evaluated)


def test_too_few_validation_texts_are_told(
    train_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--train", train_csv, "--output", tmp_path / "out", "--epochs", 1, "--out-of-scope", train_csv]
    monkeypatch.setattr(sys, "argv", ["run", *map(str, arguments)])
    run.main()
    screen = " ".join(capsys.readouterr().out.split())
    assert "no text is called out of scope: that needs 45 validation texts or more, and there are 3" in screen
    assert "the validation texts also chose the epoch, the scales and the thresholds: their scores flatter" in screen
