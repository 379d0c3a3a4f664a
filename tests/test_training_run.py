import errno
import json
import math
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from nlp_app import Predictor, folder
from nlp_app.checkpoint import load_checkpoint
from nlp_app.encoding import encode
from nlp_app.folder import RESUME, work_folder
from nlp_app.model import ConvBlock
from nlp_app.ngram_batch import join
from nlp_app.tokenizer import pad
from tests.conftest import ROOT, ROW_LABELS, TEXTS, Refused, command, write_csv
from training import evaluate, fit, learner, phases, report, run
from training.fit import Run, refit
from training.prepare import prepare
from training.state import STATE, StateStore
from training.validate import validate

SMALL = (
    "--embedding-dim",
    8,
    "--num-filters",
    4,
    "--epochs",
    4,
    "--batch-size",
    4,
    "--validation-share",
    0.2,
    "--learning-rate",
    0.02,
)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "weather"


@pytest.fixture
def train_main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`python -m training.run` in this process."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["run", *map(str, (*SMALL, *arguments))])
        return run.main()

    return call


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def weights(checkpoint: Path) -> bytes:
    return (checkpoint / "model.safetensors").read_bytes()


def metrics(checkpoint: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((checkpoint / "metrics.json").read_bytes())
    return values


def test_trains_and_leaves_a_checkpoint_that_answers(
    train_main: Callable[..., int], train_csv: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_main("--train", train_csv, "--test", train_csv, "--output", output) == 0
    assert names(output.parent) == ["weather"]
    assert Predictor.load(output).predict(["snow and ice"])[0].label in ("cold", "warm", "hot")
    screen = capsys.readouterr().out
    assert "24 training and 6 validation texts, 3 labels" in screen
    assert "selection epoch 1/4  loss" in screen
    assert "refit epoch 1/" in screen
    assert f"python -m serving --checkpoint {output}" in screen
    assert "\x1b" not in screen, "plain lines where output is no terminal"


def test_metrics_keep_their_contract(train_main: Callable[..., int], train_csv: Path, output: Path) -> None:
    train_main("--train", train_csv, "--test", train_csv, "--output", output, "--seed", 7)
    values = metrics(output)
    assert {"texts", "seconds", "texts_per_s", "epochs", "best_epoch", "stopped_because"} <= set(values["train"])
    assert {"loss", "accuracy", "macro_f1"} <= set(values["validation"])
    assert {"texts", "accuracy", "macro_f1", "seconds", "texts_per_s"} <= set(values["test"])
    assert {"parameters", "bytes"} <= set(values["model"])
    assert values["model"]["bytes"] == (output / "model.safetensors").stat().st_size
    assert values["model"]["parameters"] == sum(p.numel() for p in load_checkpoint(output).module.parameters())
    assert values["peak_memory_mb"] > 50
    assert values["seed"] == 7
    assert "torch" in values["versions"]
    assert values["train"]["texts"] == 30
    assert 1 <= values["train"]["best_epoch"] <= values["train"]["epochs"] <= 4


def test_without_a_test_file_test_is_null(train_main: Callable[..., int], train_csv: Path, output: Path) -> None:
    train_main("--train", train_csv, "--output", output)
    assert metrics(output)["test"] is None


def test_the_users_validation_file_is_never_trained_on_unless_asked(
    train_main: Callable[..., int], train_csv: Path, output: Path, tmp_path: Path
) -> None:
    validation = write_csv(tmp_path / "validation.csv", [("snow", "cold"), ("sun", "hot")])
    common = ("--train", train_csv, "--validation", validation, "--output", output, "--overwrite")
    train_main(*common)
    assert (metrics(output)["train"]["texts"], metrics(output)["train"]["refit"]) == (30, False)
    assert metrics(output)["validation"]["texts"] == 2
    train_main(*common, "--refit", "always")
    assert (metrics(output)["train"]["texts"], metrics(output)["train"]["refit"]) == (32, True)


def test_one_seed_gives_the_same_version_another_seed_another(
    train_main: Callable[..., int], train_csv: Path, output: Path
) -> None:
    versions = []
    for seed in (3, 3, 4):
        train_main("--train", train_csv, "--output", output, "--seed", seed, "--overwrite")
        versions.append(load_checkpoint(output).version)
    assert versions[0] == versions[1] != versions[2]


def test_labels_survive_as_they_stand(
    train_main: Callable[..., int],
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = ["01", "NA", "None", "true", "1.0", " padded ", "null", "1e3", "[/red]", ":smile:", "日本"]
    rows = [(f"{label} words of {number}", label) for label in labels for number in range(6)]
    data = write_csv(tmp_path / "train.csv", rows)
    train_main("--train", data, "--output", output, "--epochs", 1)
    assert Predictor.load(output).labels == tuple(sorted(labels))
    monkeypatch.setattr(sys, "argv", ["evaluate", "--checkpoint", str(output), "--data", str(data)])
    capsys.readouterr()
    evaluate.main()
    screen = capsys.readouterr().out
    assert all(label in screen for label in labels)


def test_reads_every_format_and_column_name(train_main: Callable[..., int], output: Path, tmp_path: Path) -> None:
    lines = [
        json.dumps({"subject": text, "body": f"re {text}", "kind": label})
        for text, label in zip(TEXTS * 5, ROW_LABELS * 5, strict=True)
    ]
    path = tmp_path / "mails.jsonl"
    path.write_text("\n".join(lines))
    train_main(
        "--train",
        path,
        "--text-column",
        "subject",
        "--text-column",
        "body",
        "--label-column",
        "kind",
        "--output",
        output,
    )
    trained = load_checkpoint(output).trained["options"]
    assert trained["text_column"] == ["subject", "body"]
    assert trained["train"] == "mails.jsonl"


def test_warns_and_goes_on(
    train_main: Callable[..., int], output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        *zip(TEXTS * 5, ROW_LABELS * 5, strict=True),
        ("", "cold"),
        ("lonely", "odd"),
        ("sun", "Hot"),
        ("sun", "Hot"),
    ]
    train_main("--train", write_csv(tmp_path / "train.csv", rows), "--output", output)
    screen = capsys.readouterr().out
    assert "warning: " in screen
    assert "train.csv: dropped 1 row with blank text: line 32" in screen
    assert "train.csv: 1 label with one text each, kept for training only: 'odd'" in screen
    assert "differing only in case or surrounding space, kept as separate classes: 'hot' and 'Hot'" in screen
    assert Predictor.load(output).labels == ("Hot", "cold", "hot", "odd", "warm")


def bad(tmp_path: Path, content: str | bytes, name: str = "bad.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


GOOD = "text,label\nsnow,cold\nice,cold\nsun,hot\nfire,hot\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "bad.csv is empty: its first line must name the columns"),
        ("text,label\n", "bad.csv holds no row"),
        ("words,label\nx,a\n", "bad.csv has no column 'text': its columns are 'words', 'label'"),
        ("text,label\nx,a\ny,\n", "bad.csv:3: the row has no 'label'"),
        ('text,label\n"x,a\ny,b\n', "bad.csv:2: a quote is opened in this row and never closed"),
        (b"text,label\n\xe9,a\n", "bad.csv:2: byte 1 of the line is 0xe9, which is not UTF-8"),
        ("text,label\nx,a\ny,a\n", "every row has the label 'a': a classifier needs at least two labels"),
        ("text,label\n,a\n ,b\n", "the text of every row is blank"),
        ("text,label\nx,a\ny,b\n", "every text is the only one of a label"),
        (f"text,label\n{'x' * 10_000_000},a\n", "bad.csv:2: a text is longer than 1,000,000 characters"),
    ],
)
def test_refuses_broken_training_files(
    refused: Refused, output: Path, tmp_path: Path, content: str | bytes, message: str
) -> None:
    assert message in refused(run.main, "--train", bad(tmp_path, content), "--output", output)
    assert not output.parent.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + "x,mild\n", "bad.csv:6: the label 'mild' was never seen in training"),
        ("text,label\n", "bad.csv holds no row"),
        ("text\nx\n", "bad.csv has no column 'label'"),
    ],
)
def test_refuses_broken_validation_files(
    refused: Refused, output: Path, tmp_path: Path, train_csv: Path, content: str, message: str
) -> None:
    arguments = ("--train", train_csv, "--validation", bad(tmp_path, content), "--output", output)
    assert message in refused(run.main, *arguments)
    assert not output.parent.exists()


@pytest.mark.parametrize("which", ["train", "validation", "test"])
def test_refuses_a_missing_file_before_it_trains(
    refused: Refused, output: Path, train_csv: Path, tmp_path: Path, which: str
) -> None:
    absent = tmp_path / "absent.csv"
    message = refused(run.main, "--train", train_csv, f"--{which}", absent, "--output", output)
    assert f"there is no file {absent}" in message
    assert not output.parent.exists()


def test_a_broken_test_file_loses_nothing(refused: Refused, output: Path, tmp_path: Path, train_csv: Path) -> None:
    test = bad(tmp_path, "text,label\nx,\n")
    message = refused(run.main, *SMALL, "--train", train_csv, "--test", test, "--output", output)
    assert f"the model was saved in {output}, but not tested: {test}:2: the row has no 'label'" in message
    assert metrics(output)["test"] is None
    assert Predictor.load(output).labels == ("cold", "hot", "warm")


def test_the_test_file_is_read_only_after_training_ended(
    train_main: Callable[..., int], train_csv: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = tmp_path / "test.csv"
    test.write_text("not a table yet")
    train = phases.train

    def then_write(*arguments: Any) -> Any:
        module = train(*arguments)
        test.write_text(GOOD)
        return module

    monkeypatch.setattr(run, "train", then_write)
    train_main("--train", train_csv, "--test", test, "--output", output)
    assert metrics(output)["test"]["texts"] == 4


def test_a_label_unknown_to_the_model_counts_as_missed_in_the_test(
    train_main: Callable[..., int], train_csv: Path, output: Path, tmp_path: Path
) -> None:
    train_main("--train", train_csv, "--test", bad(tmp_path, "text,label\nx,mild\n"), "--output", output)
    assert metrics(output)["test"]["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", 0), "--epochs is 0, but must be from 1 to 100,000"),
        (("--patience", 0), "--patience is 0"),
        (("--batch-size", 1), "--batch-size is 1, but must be from 2"),
        (("--learning-rate", "nan"), "--learning-rate is nan"),
        (("--learning-rate", -1), "--learning-rate is -1.0"),
        (("--validation-share", 0.9), "--validation-share is 0.9, but must be from 0.01 to 0.5"),
        (("--kernel-sizes", 3, 0), "--kernel-sizes is 0"),
        (("--dropout", 1), "--dropout is 1.0"),
        (("--device", "cuda:99"), "--device cuda:99 cannot be used here"),
    ],
)
def test_refuses_options_that_break_a_rule(
    refused: Refused, output: Path, train_csv: Path, arguments: tuple[object, ...], message: str
) -> None:
    assert message in refused(run.main, "--train", train_csv, "--output", output, *arguments)
    assert not output.parent.exists()


def test_an_output_that_exists_needs_overwrite(
    refused: Refused, train_main: Callable[..., int], output: Path, train_csv: Path
) -> None:
    train_main("--train", train_csv, "--output", output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    message = refused(run.main, "--train", train_csv, "--output", output)
    assert f"--output {output} exists: name another folder, or replace it with --overwrite" in message
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert train_main("--train", train_csv, "--output", output, "--overwrite", "--seed", 5) == 0
    assert weights(output) != before["model.safetensors"]


def test_overwrite_replaces_checkpoints_only(refused: Refused, output: Path, train_csv: Path) -> None:
    output.mkdir(parents=True)
    (output / "thesis.txt").write_text("years of work")
    message = refused(run.main, "--train", train_csv, "--output", output, "--overwrite")
    assert "is not a checkpoint, which is all that a run replaces" in message
    assert names(output) == ["thesis.txt"]
    file = output / "thesis.txt"
    assert f"--output {file} is a file: name a folder" in refused(run.main, "--train", train_csv, "--output", file)


def poison(monkeypatch: pytest.MonkeyPatch, *, at: int, phase: str = "selection") -> None:
    """Let the loss of one step become infinite, in the first learner or in that of the refit."""
    step, made = learner.Learner._take_step, []

    def exploding(self: learner.Learner, *arguments: Any) -> float:
        if self not in made:
            made.append(self)
        if self.step + 1 == at and len(made) == (1 if phase == "selection" else 2):
            torch.nn.init.constant_(self.module.output.bias, math.inf)
        return step(self, *arguments)

    monkeypatch.setattr(learner.Learner, "_take_step", exploding)


def test_a_loss_that_is_no_number_before_anything_was_kept_ends_the_run(
    refused: Refused, output: Path, train_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, at=3)
    message = refused(run.main, *SMALL, "--train", train_csv, "--output", output)
    assert "there is no model to keep: the loss became nan at step 3: lower --learning-rate" in message
    assert names(output.parent) == []


def test_a_loss_that_is_no_number_later_keeps_the_best_model(
    train_main: Callable[..., int],
    output: Path,
    train_csv: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    poison(monkeypatch, at=14)  # 6 steps an epoch
    assert train_main("--train", train_csv, "--output", output) == 0
    told = metrics(output)["train"]
    assert (told["epochs"], told["refit"]) == (2, False)
    assert told["stopped_because"] == "the loss became nan at step 14: lower --learning-rate"
    assert "warning: the loss became nan at step 14: lower --learning-rate; the model is" in capsys.readouterr().out
    assert math.isfinite(Predictor.load(output).predict(["snow"])[0].score)
    assert names(output.parent) == ["weather"]


def test_a_loss_that_is_no_number_in_the_refit_keeps_the_model_of_the_selection(
    train_main: Callable[..., int], output: Path, train_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_main("--train", train_csv, "--output", output.with_name("selected"), "--refit", "never")
    poison(monkeypatch, at=5, phase="refit")
    assert train_main("--train", train_csv, "--output", output) == 0
    assert metrics(output)["train"]["refit"] is False
    assert weights(output) == weights(output.with_name("selected"))


def test_interrupted_with_a_loss_that_is_no_number_there_is_nothing_to_keep(
    refused: Refused, output: Path, train_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(monkeypatch, 1)
    step = learner.Learner._take_step

    def poisoning(self: learner.Learner, *arguments: Any) -> float:
        loss = step(self, *arguments)
        torch.nn.init.constant_(self.averaged.output.bias, math.nan)
        return loss

    monkeypatch.setattr(learner.Learner, "_take_step", poisoning)
    message = refused(run.main, *SMALL, "--train", train_csv, "--output", output)
    assert "interrupted, and the loss was not a number so far: lower --learning-rate" in message


def interrupt_after(monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    """Ctrl-C right after the state was saved so many times."""
    count = 0
    save = StateStore.save

    def counting(self: Any, state: Any, tensors: Any) -> None:
        nonlocal count
        save(self, state, tensors)
        count += 1
        if count == saves:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StateStore, "save", counting)


def test_what_is_not_the_runs_is_left_alone(
    train_main: Callable[..., int], refused: Refused, train_csv: Path, output: Path
) -> None:
    common = ("--train", train_csv, "--output", output)
    previous = output.with_name("weather.previous")
    previous.mkdir(parents=True)
    assert "weather.previous was not left by a run" in refused(run.main, *SMALL, *common)
    previous.rmdir()
    work = work_folder(output)
    work.mkdir()
    (work / "precious").touch()
    assert "holds 'precious', which no run wrote" in refused(run.main, *SMALL, *common)
    assert (work / "precious").exists()
    shutil.rmtree(work)
    train_main(*common)
    (output / "train.CSV").touch()
    assert "holds 'train.CSV', which the run would remove" in refused(run.main, *SMALL, *common, "--overwrite")
    assert (output / "train.CSV").exists()
    (output / "train.CSV").unlink()
    (output / "manifest.json").write_text('{"name": "a web app"}')
    assert "is not a checkpoint, which is all that a run replaces" in refused(run.main, *SMALL, *common, "--overwrite")


def test_a_run_that_came_and_went_meanwhile_is_not_overwritten(
    train_main: Callable[..., int], refused: Refused, train_csv: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found the output free; the other one is done when this one, which read its data longer, would begin."""
    others = ("--train", train_csv, "--output", output, "--seed", 7)

    def slowly(*arguments: Any) -> Any:
        prepared = prepare(*arguments)
        with monkeypatch.context() as patch:
            patch.setattr(run, "prepare", prepare)
            train_main(*others)
        return prepared

    monkeypatch.setattr(run, "prepare", slowly)
    message = refused(run.main, *SMALL, "--train", train_csv, "--output", output)
    assert f"--output {output} exists: name another folder" in message
    assert metrics(output)["seed"] == 7
    assert names(output.parent) == ["weather"]


def test_a_reader_that_goes_away_ends_no_training(train_csv: Path, output: Path) -> None:
    words = " ".join(map(str, (*SMALL, "--train", train_csv, "--output", output)))
    program = f"{shlex.quote(sys.executable)} -m training.run {words} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert Predictor.load(output).labels == ("cold", "hot", "warm")


def test_a_file_may_have_a_name_that_is_not_utf_8(
    train_main: Callable[..., int], train_csv: Path, output: Path
) -> None:
    odd = train_csv.rename(train_csv.with_name("train\udcff.csv"))
    assert train_main("--train", odd, "--output", output) == 0


def test_weights_that_are_no_numbers_after_the_refit_give_way_to_those_of_the_selection(
    train_main: Callable[..., int],
    train_csv: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def poisoned(run_: Run, learner_: learner.Learner, rows: object) -> None:
        refit(run_, learner_, rows)  # type: ignore[arg-type]
        torch.nn.init.constant_(learner_.averaged.output.bias, math.nan)

    monkeypatch.setattr(phases, "refit", poisoned)
    assert train_main("--train", train_csv, "--output", output) == 0
    assert metrics(output)["train"]["refit"] is False
    assert math.isfinite(Predictor.load(output).predict(["snow"])[0].score)
    told = "the loss was not a number when all rows were trained on: lower --learning-rate; the model is that of"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    "where", ["torch.optim.AdamW.step", "training.validate.score", "training.sizes.backward_whole"]
)
def test_out_of_memory_outside_of_the_gradient_is_said(
    refused: Refused, output: Path, train_csv: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """In the optimizer, in an evaluation, and where sizes are measured."""

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(where, failing)
    message = refused(run.main, *SMALL, "--train", train_csv, "--output", output, "--explain-sizes")
    assert "out of memory: lower --batch-size, --max-length" in message


def test_ctrl_c_is_heeded_between_two_tries_of_a_batch(
    train_main: Callable[..., int], train_csv: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that never fits is tried with ever smaller parts, which takes long."""
    tries: list[int] = []
    forward = ConvBlock.forward

    def failing(self: ConvBlock, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return forward(self, x, mask)
        tries.append(len(x))
        if len(tries) == 1:  # a second one would end the process at once
            os.kill(os.getpid(), signal.SIGTERM)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ConvBlock, "forward", failing)
    assert train_main("--train", train_csv, "--output", output) == 0
    assert tries == [4]
    assert metrics(output)["train"]["stopped_because"] == "interrupted by the user"
    assert names(work_folder(output)) == [RESUME]


def test_plateau_halves_the_rate_by_the_evaluations_and_in_the_refit_at_the_same_places(
    train_main: Callable[..., int], train_csv: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = [1.0, 1.1, 0.9, 0.95, 0.8, 0.85]
    given = {"constant": iter(losses), "plateau": iter(losses)}
    rates: dict[str, dict[tuple[int, int], float]] = {"constant": {}, "plateau": {}}
    step = learner.Learner._take_step

    for name in rates:
        learners: list[learner.Learner] = []

        def scripted(*arguments: Any, name: str = name) -> dict[str, float]:
            return {**validate(*arguments), "loss": next(given[name])}

        def noting(
            self: learner.Learner, *arguments: Any, name: str = name, learners: list[learner.Learner] = learners
        ) -> float:
            if self not in learners:
                learners.append(self)
            rates[name][len(learners), self.step] = self.optimizer.param_groups[0]["lr"]
            return step(self, *arguments)

        monkeypatch.setattr(fit, "validate", scripted)
        monkeypatch.setattr(learner.Learner, "_take_step", noting)
        common = ("--train", train_csv, "--output", output, "--overwrite", "--epochs", 6, "--patience", 2)
        train_main(*common, "--schedule", name)
    assert metrics(output)["train"]["refit"] is True
    shares = {key: rate / rates["constant"][key] for key, rate in rates["plateau"].items()}
    # 6 steps an epoch, then 8; patience 2 halves the rate after each evaluation that was no better.
    assert [shares[1, 6 * epoch + 5] for epoch in range(6)] == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])
    assert [shares[2, 8 * epoch + 7] for epoch in range(5)] == pytest.approx([1, 1, 0.5, 0.5, 0.25])


def test_a_label_column_must_be_one_of_labels(refused: Refused, output: Path, tmp_path: Path) -> None:
    ids = write_csv(tmp_path / "ids.csv", [(f"text {number}", f"id{number % 1100}") for number in range(1200)])
    common = (*SMALL, "--output", output, "--train", ids)
    assert "1,100 labels for 1,200 texts: is --label-column a column of labels?" in refused(run.main, *common)
    assert "column 'label' cannot be both text and label" in refused(run.main, *common, "--text-column", "label")


@pytest.mark.parametrize("saves", [1, 2, 4, 6])
def test_ctrl_c_saves_the_best_so_far_and_resume_ends_with_the_same_weights(
    train_main: Callable[..., int], train_csv: Path, output: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    """Interrupted before the first epoch, in the selection, at its end, and in the refit (4 epochs, then 2 or more)."""
    common = ("--train", train_csv, "--test", train_csv)
    whole = output.with_name("whole")
    train_main(*common, "--output", whole)
    with monkeypatch.context() as patch:
        interrupt_after(patch, saves)
        assert train_main(*common, "--output", output) == 0
    stopped = metrics(output)
    assert stopped["train"]["stopped_because"] == "interrupted by the user"
    assert stopped["test"] is None
    assert Predictor.load(output).labels == ("cold", "hot", "warm")
    assert names(work_folder(output)) == [RESUME]
    assert train_main(*common, "--output", output, "--resume") == 0
    assert weights(output) == weights(whole)
    assert load_checkpoint(output).version == load_checkpoint(whole).version
    for key in ("epochs", "best_epoch", "stopped_because", "texts"):
        assert metrics(output)["train"][key] == metrics(whole)["train"][key]
    assert names(output.parent) == ["weather", "whole"]


@pytest.mark.parametrize(
    "rules",
    [
        ("--evaluate-every", 4, "--patience", 2, "--margin", "0.1se", "--select-by", "macro-f1"),
        ("--evaluate-every", 4, "--patience", 2, "--stop-rule", "pq", "--schedule", "plateau"),
        ("--stop-rule", "gl", "--stop-threshold", 1, "--schedule", "one-cycle", "--loss", "nll"),
    ],
)
@pytest.mark.parametrize("saves", [2, 4])
def test_every_rule_goes_on_as_in_an_unbroken_run(
    train_main: Callable[..., int],
    train_csv: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    rules: tuple[object, ...],
    saves: int,
) -> None:
    """Interrupted inside an epoch too: evaluations come after every 4 steps, and an epoch has 6."""
    whole = output.with_name("whole")
    train_main("--train", train_csv, "--output", whole, *rules)
    with monkeypatch.context() as patch:
        interrupt_after(patch, saves)
        train_main("--train", train_csv, "--output", output, *rules)
    assert metrics(output)["train"]["stopped_because"] == "interrupted by the user"
    assert train_main("--train", train_csv, "--output", output, "--resume", *rules) == 0
    assert weights(output) == weights(whole)
    told, expected = metrics(output)["train"], metrics(whole)["train"]
    for key in ("epochs", "evaluations", "steps", "best_step", "best_epoch", "stopped_because"):
        assert told[key] == expected[key]


def test_evaluations_inside_an_epoch_choose_a_step_and_the_refit_takes_as_many_epochs(
    train_main: Callable[..., int], train_csv: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_main("--train", train_csv, "--output", output, "--evaluate-every", 4, "--epochs", 2) == 0
    told = metrics(output)["train"]
    assert (told["steps"], told["evaluations"], told["epochs"]) == (12, 3, 2)  # 6 steps an epoch
    assert told["best_step"] in (4, 8, 12)
    assert told["best_epoch"] == pytest.approx(told["best_step"] / 6)
    screen = capsys.readouterr().out
    assert [f"selection epoch {epoch}/2" in screen for epoch in ("0.67", "1.33", "2")] == [True] * 3
    assert told["refit"] is True


def test_the_served_scores_are_the_same_function_of_the_same_weights(
    train_main: Callable[..., int], train_csv: Path, output: Path
) -> None:
    """Trained by nll: the module ends in log-probabilities, but Predictor reads the logits."""
    train_main("--train", train_csv, "--output", output, "--loss", "nll")
    predictor, module = Predictor.load(output), load_checkpoint(output).module
    assert module.config.output == "log_probabilities"
    scores = predictor.predict(TEXTS, top_k=3)
    encoded = encode(TEXTS, tokenizer=predictor.checkpoint.tokenizer, config=module.config)
    with torch.inference_mode():
        input_ids = torch.from_numpy(pad([text.input_ids for text in encoded]))
        expected = module(input_ids, join([text.ngrams for text in encoded])).exp()
    for prediction, row in zip(scores, expected, strict=True):
        assert [score.score for score in prediction.scores] == pytest.approx(
            sorted(row.tolist(), reverse=True), abs=1e-6
        )


def test_losses_and_memory_options_train(train_main: Callable[..., int], train_csv: Path, tmp_path: Path) -> None:
    """Each option reaches the run; what must not change the weights does not, or by what float32 rounds."""

    def trained(name: str, *arguments: object) -> bytes:
        train_main("--train", train_csv, "--output", tmp_path / name, "--num-blocks", 2, *arguments)
        return weights(tmp_path / name)

    plain = trained("plain")
    assert trained("recomputed", "--gradient-checkpointing", "blocks") == plain
    assert trained("auto", "--gradient-checkpointing", "auto") == plain
    others = {
        trained("weighted", "--class-weights", "cold=1", "hot=2", "warm=3"),
        trained("smoothed", "--label-smoothing", 0.1),
        trained("focal", "--focal-gamma", 2),
        trained("fast", "--micro-batch-size", 2, "--sharding", "fast"),
        trained("bf16", "--precision", "bf16"),
        trained("frozen", "--freeze", "embedding"),
        trained("cosine", "--schedule", "cosine"),
    }
    assert len(others | {plain}) == 8
    split = safetensors.torch.load(trained("split", "--micro-batch-size", 2))
    for name, tensor in safetensors.torch.load(plain).items():
        torch.testing.assert_close(tensor, split[name], rtol=1e-5, atol=1e-5, msg=name)


def test_an_interrupted_run_leaves_the_model_that_it_was_to_replace(
    train_main: Callable[..., int], train_csv: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_main("--train", train_csv, "--output", output)
    before = weights(output)
    changed = ("--train", train_csv, "--output", output, "--seed", 5)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt, match="still holds the model that was there; go on with --resume"):
            train_main(*changed, "--overwrite")
    assert weights(output) == before
    assert names(work_folder(output)) == [RESUME]
    assert train_main(*changed, "--resume") == 0
    assert weights(output) != before
    assert names(output.parent) == ["weather"]


@pytest.mark.parametrize("saves", [2, 6])
def test_a_killed_process_resumes_and_ends_with_the_same_weights(train_csv: Path, output: Path, saves: int) -> None:
    """SIGKILL in the middle of an epoch, in a process of its own; nothing can clean up."""
    whole = output.with_name("whole")
    arguments = [*map(str, SMALL), "--train", str(train_csv)]
    program = (
        "import os, signal, sys; from training import learner, run, state\n"
        f"saves = {saves}; steps = 0; step = learner.Learner._take_step; save = state.StateStore.save\n"
        "def counting(self, *a):\n"
        "    global saves; save(self, *a); saves -= 1\n"
        "def dying(self, *a):\n"
        "    global steps\n"
        "    if saves <= 0: steps += 1\n"
        "    if steps == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, *a)\n"
        "state.StateStore.save = counting; learner.Learner._take_step = dying\n"
        "run.main()"
    )
    died = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--output", str(output)], cwd=ROOT, capture_output=True, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not output.exists()
    for folder_, extra in ((whole, ()), (output, ("--resume",))):
        done = command("training.run", *arguments, "--output", folder_, *extra)
        assert done.returncode == 0, done.stderr
    assert weights(output) == weights(whole)
    assert names(output.parent) == ["weather", "whole"]


@pytest.fixture
def interrupted(train_main: Callable[..., int], train_csv: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        train_main("--train", train_csv, "--output", output)
    return output


def test_an_interrupted_run_is_not_thrown_away_unasked(
    refused: Refused, train_main: Callable[..., int], interrupted: Path, train_csv: Path
) -> None:
    message = refused(run.main, *SMALL, "--train", train_csv, "--output", interrupted)
    assert "holds an interrupted run: go on with --resume, or start over with --overwrite" in message
    assert train_main("--train", train_csv, "--output", interrupted, "--overwrite") == 0
    assert not work_folder(interrupted).exists()


def test_resume_needs_the_same_options_and_data(refused: Refused, interrupted: Path, train_csv: Path) -> None:
    common = (*SMALL, "--train", train_csv, "--output", interrupted, "--resume")
    message = refused(run.main, *common, "--seed", 9)
    assert "--resume: seed was 0 in the interrupted run and is 9 now: give the same again" in message
    moved = train_csv.rename(train_csv.with_name("moved.csv"))
    common = (*SMALL, "--train", moved, "--output", interrupted, "--resume")
    assert "seed was 0" in refused(run.main, *common, "--seed", 9), "the same texts elsewhere are the same"
    moved.write_text(moved.read_text().replace("snow", "rain"))
    assert "--resume: data was" in refused(run.main, *common)
    assert (work_folder(interrupted) / RESUME / STATE).is_file()


def test_resume_needs_the_same_parts_where_the_update_depends_on_them(
    refused: Refused,
    train_main: Callable[..., int],
    train_csv: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    common = ("--train", train_csv, "--output", output, "--sharding", "fast")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        train_main(*common, "--micro-batch-size", 2)
    assert load_checkpoint(output).trained["options"]["micro_batch_size"] == 2
    message = refused(run.main, *SMALL, *common, "--micro-batch-size", 3, "--resume")
    assert "--resume: micro_batch_size was 2 in the interrupted run and is 3 now: give the same again" in message
    assert train_main(*common, "--micro-batch-size", 2, "--resume") == 0


def test_resume_replaces_no_folder_that_came_meanwhile(refused: Refused, interrupted: Path, train_csv: Path) -> None:
    shutil.rmtree(interrupted)
    interrupted.mkdir()
    (interrupted / "thesis.txt").touch()
    message = refused(run.main, *SMALL, "--train", train_csv, "--output", interrupted, "--resume")
    assert "is not a checkpoint, which is all that a run replaces" in message
    assert (interrupted / "thesis.txt").exists()


def test_resume_needs_the_same_libraries_and_threads(
    refused: Refused, interrupted: Path, train_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = (*SMALL, "--train", train_csv, "--output", interrupted, "--resume")
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 99)
        assert "and is 99 now: give the same again" in refused(run.main, *common)
    monkeypatch.setattr(report, "versions", lambda: {"torch": "1"})
    assert "--resume: versions was {" in refused(run.main, *common)


def test_resume_needs_an_interrupted_run(refused: Refused, output: Path, train_csv: Path) -> None:
    message = refused(run.main, "--train", train_csv, "--output", output, "--resume")
    assert "there is no interrupted run to go on with" in message


def test_resume_says_when_the_state_is_broken(refused: Refused, interrupted: Path, train_csv: Path) -> None:
    common = (*SMALL, "--train", train_csv, "--output", interrupted, "--resume")
    resume = work_folder(interrupted) / RESUME
    for path in resume.glob("learner-*"):
        path.write_bytes(path.read_bytes()[:-9])
    assert "cannot be used" in refused(run.main, *common)
    (resume / STATE).write_text("{")
    assert "start over with --overwrite" in refused(run.main, *common)


def test_the_state_holds_no_pickle(interrupted: Path) -> None:
    files = names(work_folder(interrupted) / RESUME)
    assert files == ["best-selection-6.safetensors", "learner-selection-6.safetensors", "state.json"]
    for name in files[:2]:
        assert safetensors.torch.load((work_folder(interrupted) / RESUME / name).read_bytes())


def test_two_runs_do_not_share_an_output(
    refused: Refused, train_csv: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_folder(output)
    work.mkdir(parents=True)
    with folder.locked(work):
        message = refused(run.main, *SMALL, "--train", train_csv, "--output", output)
    assert f"{work} is being written by another run" in message


@pytest.mark.parametrize("saves", [1, 3])
def test_a_full_disk_is_said_and_resumed_from(
    refused: Refused,
    train_main: Callable[..., int],
    train_csv: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    saves: int,
) -> None:
    """The disk is full when so many files were written; the old checkpoint stays."""
    train_main("--train", train_csv, "--output", output)
    before = weights(output)
    count = 0
    sync = os.fsync

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count > saves:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        message = refused(run.main, *SMALL, "--train", train_csv, "--output", output, "--overwrite", "--seed", 1)
    assert "cannot be written: the disk is full" in message
    assert weights(output) == before
    assert load_checkpoint(output)
    assert train_main("--train", train_csv, "--output", output, "--seed", 1, "--resume") == 0
    assert weights(output) != before


def test_a_disk_that_is_really_full(train_csv: Path, output: Path) -> None:
    """A limit on the size of files makes the operating system refuse, as a full disk would."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    done = subprocess.run(
        [sys.executable, "-m", "training.run", *map(str, SMALL), "--train", str(train_csv), "--output", str(output)],
        cwd=ROOT, capture_output=True, text=True, preexec_fn=limit, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "cannot be written: File too large" in done.stderr
    assert not output.exists()


def test_an_output_that_is_a_mount_point_is_filled_in_place(
    train_main: Callable[..., int], train_csv: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output.mkdir(parents=True)
    for module in ("nlp_app.folder", "training.output"):
        monkeypatch.setattr(f"{module}.is_mount_point", lambda path: path == output)
    inode = output.stat().st_ino
    assert train_main("--train", train_csv, "--output", output) == 0
    first = load_checkpoint(output).version
    assert train_main("--train", train_csv, "--output", output, "--overwrite", "--seed", 8) == 0
    assert load_checkpoint(output).version != first
    assert output.stat().st_ino == inode
    assert names(output.parent) == ["weather"]
    assert ".partial" not in names(output)
