"""Learning from a teacher: its share of the loss, when it is used, and that a run goes on as if nothing had been."""

import json
import math
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nlp_app.checkpoint import load_checkpoint
from tests.conftest import ROW_LABELS, TEXTS, Refused, write_checkpoint
from training import distil, run
from training.distil import MIX, mixed
from training.losses import Loss
from training.state import StateStore

SIZES = {"embedding-dim": 8, "num-filters": 4, "epochs": 3, "batch-size": 4, "validation-share": 0.2, "ngrams": "words"}
SMALL = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]
WEIGHTS = torch.tensor([0.5, 2.0, 1.25], dtype=torch.float64)


def test_a_target_is_the_labels_and_the_teachers() -> None:
    answers = torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]])
    expected = torch.tensor([[0.2 * MIX, 0.5 * MIX + 1 - MIX, 0.3 * MIX], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(mixed(torch.tensor([1, 2]), answers), expected)
    several = torch.tensor([[1.0, 0.0, 1.0]])
    torch.testing.assert_close(mixed(several, answers[:1]), several * (1 - MIX) + answers[:1] * MIX)


def test_the_teacher_reaches_the_gradient() -> None:
    """Of cross-entropy: softmax minus target, over the texts."""
    torch.manual_seed(1)
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(5, 3, dtype=torch.float64).softmax(dim=1)
    (gradient,) = torch.autograd.grad(Loss()(logits, targets), logits)
    torch.testing.assert_close(gradient, (logits.detach().softmax(dim=1) - targets) / 5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_certain_teacher_is_the_label(weights: torch.Tensor | None, smoothing: float) -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(7, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 2, 2, 0, 1])
    loss = Loss(class_weights=weights, label_smoothing=smoothing)
    certain = torch.nn.functional.one_hot(labels, 3).double()
    torch.testing.assert_close(loss(logits, certain), loss(logits, labels))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_parts_add_up_with_probabilities_too(weights: torch.Tensor | None) -> None:
    torch.manual_seed(1)
    logits, targets = torch.randn(7, 3, dtype=torch.float64), torch.rand(7, 3, dtype=torch.float64).softmax(dim=1)
    loss = Loss(class_weights=weights)
    parts = sum(loss.total(logits[part], targets[part]) for part in (slice(0, 3), slice(3, 7)))
    torch.testing.assert_close(parts / loss.divisor(targets), loss(logits, targets))


def test_what_a_text_weighs_is_by_the_teacher_too() -> None:
    """Where nothing is known, each text's loss is log C, and so is their weighted mean, whatever they weigh."""
    targets = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]], dtype=torch.float64)
    loss = Loss(class_weights=WEIGHTS)(torch.zeros(2, 3, dtype=torch.float64), targets)
    torch.testing.assert_close(loss.item(), math.log(3))


def rows() -> list[tuple[str, str]]:
    """Some with a label that is not theirs, so that there is something to learn from a teacher who knows better."""
    texts = [(f"{text} {n}", label) for n in range(8) for text, label in zip(TEXTS, ROW_LABELS, strict=True)]
    return [(text, "cold" if place % 7 == 3 else label) for place, (text, label) in enumerate(texts)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "noisy.csv"
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows()))
    return path


def scores(path: Path, labels: list[str], sure: float = 0.94) -> Path:
    names = ("cold", "hot", "warm")
    lines = (
        {"text": text, "scores": {name: sure if name == label else (1 - sure) / 2 for name in names}}
        for (text, _), label in zip(rows(), labels, strict=True)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Gives the labels of the file, those that are not true among them: no model has a lower loss."""
    return scores(tmp_path / "good.jsonl", [label for _, label in rows()])


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    labels = [label for _, label in rows()]
    random.Random(0).shuffle(labels)
    return scores(tmp_path / "bad.jsonl", labels)


@pytest.fixture
def train_main(monkeypatch: pytest.MonkeyPatch, data: Path) -> Callable[..., int]:
    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["run", *SMALL, "--train", str(data), *map(str, arguments)])
        return run.main()

    return call


def metrics(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "metrics.json").read_bytes())
    return values


def kept_if(better: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model that learned from the teacher be better, or worse, than it is."""
    decide = distil.keep_better

    def tilted(run_: Any, taught: Any) -> None:
        taught.scores["loss"] = -1.0 if better else 99.0
        decide(run_, taught)

    monkeypatch.setattr(distil, "keep_better", tilted)


def test_a_worse_teacher_is_told_of_and_not_used(
    train_main: Callable[..., int], bad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_main("--output", tmp_path / "plain")
    assert metrics(tmp_path / "plain")["teacher"] is None
    train_main("--output", tmp_path / "out", "--teacher", bad)
    told = metrics(tmp_path / "out")["teacher"]
    assert told["used"] is False
    assert told["loss"] > told["without"]["loss"]
    assert "with" not in told
    screen = capsys.readouterr().out
    assert f"the teacher: validation loss {told['loss']:.4f} and accuracy {told['accuracy']:.4f}; without it" in screen
    assert ": that is worse: it is not used" in screen
    assert "distillation" not in screen
    plain, taught = (load_checkpoint(tmp_path / name).module.state_dict() for name in ("plain", "out"))
    assert all(torch.equal(plain[name], taught[name]) for name in plain)


def test_a_model_that_learned_nothing_by_it_is_not_kept(
    train_main: Callable[..., int], good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_main("--output", tmp_path / "plain")
    kept_if(False, monkeypatch)
    train_main("--output", tmp_path / "out", "--teacher", good)
    assert metrics(tmp_path / "out")["teacher"]["used"] is False
    plain, taught = (load_checkpoint(tmp_path / name).module.state_dict() for name in ("plain", "out"))
    assert all(torch.equal(plain[name], taught[name]) for name in plain)


def test_what_is_compared_is_what_is_stored(
    train_main: Callable[..., int], good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_if(True, monkeypatch)
    train_main("--output", tmp_path / "plain", "--quantize", "int8", "--refit", "never")
    train_main("--output", tmp_path / "out", "--teacher", good, "--quantize", "int8", "--refit", "never")
    told = metrics(tmp_path / "out")["teacher"]["without"]
    assert told["loss"] == metrics(tmp_path / "plain")["validation"]["loss"]


@pytest.mark.parametrize("refit", ["auto", "never"])
def test_a_better_teacher_is_learned_from(
    train_main: Callable[..., int], good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refit: str
) -> None:
    seen: list[torch.Tensor] = []
    whole = Loss.total

    def noting(self: Loss, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(targets)
        return whole(self, output, targets)

    monkeypatch.setattr(Loss, "total", noting)
    kept_if(True, monkeypatch)
    train_main("--output", tmp_path / "out", "--teacher", good, "--refit", refit)
    told = metrics(tmp_path / "out")["teacher"]
    assert told["used"] is True
    assert told["with"]["loss"] < told["without"]["loss"]
    assert told["seconds"] > 0
    soft = [targets.ndim == 2 for targets in seen]
    assert soft == sorted(soft), "without the teacher first, then with it, to the end of the refit"
    assert {False, True} == set(soft)
    assert sum(map(len, seen[-12:])) == 48 if refit == "auto" else 38
    assert load_checkpoint(tmp_path / "out").trained["options"]["teacher"] == "good.jsonl"


def interrupt_after(monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    """Ctrl-C right after the state was saved so many times."""
    save, count = StateStore.save, iter(range(1, 1000))

    def counting(self: StateStore, state: Any, tensors: Any) -> None:
        save(self, state, tensors)
        if next(count) == saves:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(StateStore, "save", counting)


@pytest.mark.parametrize("saves", [1, 3, 5, 6, 8, 9])
@pytest.mark.parametrize("better", [True, False])
def test_a_resumed_run_ends_as_the_unbroken_one(
    train_main: Callable[..., int],
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saves: int,
    better: bool,
) -> None:
    """Begun, in the selection, when the model is put aside, with the teacher, at that phase's end, and in the refit."""
    kept_if(better, monkeypatch)
    train_main("--output", tmp_path / "unbroken", "--teacher", good)
    with monkeypatch.context() as patch:
        interrupt_after(patch, saves)
        train_main("--output", tmp_path / "out", "--teacher", good)
    broken = metrics(tmp_path / "out")
    assert broken["train"]["stopped_because"] == "interrupted by the user"
    assert broken["teacher"]["used"] is (better and saves >= 8)
    if saves in (5, 6):
        assert broken["validation"]["loss"] == pytest.approx(broken["teacher"]["without"]["loss"])
    train_main("--output", tmp_path / "out", "--teacher", good, "--resume")
    versions = [load_checkpoint(tmp_path / name).version for name in ("unbroken", "out")]
    assert versions[0] == versions[1]
    assert metrics(tmp_path / "out")["teacher"]["used"] is better


def test_a_run_is_resumed_with_the_same_teacher_alone(
    train_main: Callable[..., int],
    refused: Refused,
    data: Path,
    good: Path,
    bad: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        train_main("--output", tmp_path / "out", "--teacher", good)
    common = (*SMALL, "--train", data, "--output", tmp_path / "out", "--resume")
    assert "--resume: teacher was" in refused(run.main, *common, "--teacher", bad)
    assert "and is None now: give the same again" in refused(run.main, *common)
    assert train_main("--output", tmp_path / "out", "--resume", "--teacher", good) == 0


def test_ctrl_c_while_the_teacher_is_asked_leaves_nothing(
    train_main: Callable[..., int], good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = distil.ask

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return ask(*arguments)

    monkeypatch.setattr(distil, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_main("--output", tmp_path / "out", "--teacher", good)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("flag", ["--loss nll", "--focal-gamma 2"])
def test_refuses_a_loss_that_takes_no_probabilities(
    refused: Refused, data: Path, good: Path, tmp_path: Path, flag: str
) -> None:
    common = ("--train", data, "--output", tmp_path / "out", "--teacher", good)
    message = refused(run.main, *common, *flag.split())
    assert f"--teacher needs a loss that takes probabilities, which {flag.removesuffix(' 2')} does not" in message


def test_texts_with_several_labels_learn_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a checkpoint; each label has a probability of its own."""
    rows = [
        {"text": f"{text} {n}", "labels": [label, "hot"]}
        for n in range(5)
        for text, label in zip(TEXTS, ROW_LABELS, strict=True)
    ]
    path = tmp_path / "several.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    teacher = write_checkpoint(tmp_path / "teacher", multi_label=True)
    monkeypatch.setattr(distil, "is_positive", lambda gaps: False)
    kept_if(True, monkeypatch)
    monkeypatch.setattr(
        sys, "argv", ["run", *SMALL, "--train", str(path), "--output", str(tmp_path / "out"), "--teacher", str(teacher)]
    )
    assert run.main() == 0
    assert metrics(tmp_path / "out")["teacher"]["used"] is True
