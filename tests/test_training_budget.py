import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nlp_app import Predictor
from nlp_app.checkpoint import load_checkpoint
from tests.test_training_multi_label import rows, write
from training import branches, run
from training.budget import SAVING_S, Budget, Deadline, process_age
from training.options import Options, parse_options
from training.phases import as_done
from training.state import RunState

SMALL = "--embedding-dim 8 --num-filters 4 --batch-size 4 --validation-share 0.2 --learning-rate 0.02 --epochs 8"
EARLY_BEST = "--select-by accuracy --learning-rate 0.05"
"""The second epoch already gets all right."""


class Clock:
    """A second passes at each look, or as many as the test says."""

    def __init__(self, step: float = 1.0) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, train_csv: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Train with a clock that goes on by a hundredth of a second at each look; gives metrics.json."""

    def call(name: str, *arguments: object) -> dict[str, Any]:
        data = [] if "--train" in arguments else ["--train", train_csv]
        words = [*SMALL.split(), *data, "--output", tmp_path / name, *arguments]
        monkeypatch.setattr("sys.argv", ["run", *map(str, words)])
        monkeypatch.setattr(Budget, "of_process", lambda seconds: Budget(seconds=seconds, clock=Clock(0.01)))
        assert run.main() == 0
        told: dict[str, Any] = json.loads((tmp_path / name / "metrics.json").read_bytes())["train"]
        return told

    return call


def test_a_budget_counts_what_was_spent_before_it_began() -> None:
    clock = Clock(0)
    budget = Budget(seconds=10, spent=4, clock=clock)
    assert budget.left() == 6
    clock.now = 7
    assert budget.left() == -1
    clock.now = 2
    assert budget.without(1).left() == 3
    assert Budget(clock=clock).left() == Budget(clock=clock).without(1e9).left() == float("inf")


def test_a_process_has_an_age() -> None:
    assert 0 < process_age() < 1e6
    assert process_age() <= process_age()


def state_of(*, best: int, evaluations: int, seconds: float) -> RunState:
    scores = [{"loss": 1.0, "step": 10 * number, "epoch": number} for number in range(1, evaluations + 1)]
    return RunState(fingerprint={}, seconds=seconds, scores=scores, best=best)


def test_time_for_a_refit_is_kept_once_scores_rise_no_more() -> None:
    clock = Clock(0)
    budget = Budget(seconds=100, clock=clock)
    deadline = Deadline(budget, train=90, validation=10, wants_refit=True)
    budget.took["evaluation"] = 0.0
    clock.now = 70
    deadline.evaluated(state_of(best=4, evaluations=4, seconds=40))
    assert not deadline.is_up(1.0), "the last was the best: go on"
    deadline.evaluated(state_of(best=2, evaluations=4, seconds=40))  # a refit of 1.2 * 100 / 90 * 20 s = 26.7 s
    assert not deadline.is_up(1.0)
    clock.now = 72.5
    deadline.evaluated(state_of(best=2, evaluations=5, seconds=50))
    assert deadline.is_up(1.0), "what was kept stays kept"
    deadline.evaluated(state_of(best=6, evaluations=6, seconds=60))
    assert not deadline.is_up(1.0), "scores rise again"
    deadline.evaluated(state_of(best=2, evaluations=4, seconds=40))
    assert not deadline.is_up(1.0), "it fits no more: go on without"
    clock.now = 100 - SAVING_S + 0.1
    assert deadline.is_up(1.0)


def test_the_first_evaluation_is_foreseen_by_the_pace() -> None:
    clock = Clock(0)
    deadline = Deadline(Budget(seconds=100, clock=clock), train=900, validation=100, wants_refit=False)
    clock.now = 60
    assert deadline.is_up(5.0), "six times 100 texts at 10 a second take 60 s"
    assert not deadline.is_up(50.0)


def test_without_a_limit_time_is_never_up() -> None:
    deadline = Deadline(Budget(clock=Clock()), train=1, validation=1, wants_refit=True)
    assert not deadline.is_up(1e-9)


def test_a_limit_that_is_far_away_changes_no_byte(train: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    assert (
        train("plain", "--epochs", 2)["cut_short"]
        == train("far", "--epochs", 2, "--max-seconds", 1000)["cut_short"]
        == []
    )
    assert load_checkpoint(tmp_path / "plain").version == load_checkpoint(tmp_path / "far").version


@pytest.mark.parametrize(
    ("words", "cut"),
    [("--max-seconds 1.8", {"selection", "refit"}), (f"{EARLY_BEST} --max-seconds 2.4", {"selection"})],
)
def test_a_run_that_time_cut_short_can_be_trained_again_without_a_limit(
    train: Callable[..., dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    cut: set[str],
) -> None:
    """Where scores still rise at the end there is no refit; where they rise no more, time was kept for it."""
    told = train("cut", *words.split())
    assert set(told["cut_short"]) == cut
    assert told["epochs"] < 8
    assert f"{words.split()[-1]} s were up, of at most 8 epochs" in capsys.readouterr().out
    options = load_checkpoint(tmp_path / "cut").trained["options"]
    assert options["max_steps"] == told["steps"]
    assert (options["refit"] == "never") is ("refit" in cut)
    again = (*words.split()[:-2], "--max-steps", options["max_steps"], "--refit", options["refit"])
    assert train("again", *again)["cut_short"] == []
    assert load_checkpoint(tmp_path / "cut").version == load_checkpoint(tmp_path / "again").version


def test_without_time_for_an_epoch_there_is_one_step_one_evaluation_and_a_model(
    train: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    told = train("none", "--max-seconds", 1)
    assert (told["steps"], told["evaluations"]) == (1, 1)
    assert Predictor.load(tmp_path / "none").predict(["snow and ice"])[0].label in ("cold", "warm", "hot")


def test_a_refit_that_is_slower_than_foreseen_gives_way_to_the_selection(
    train: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("selected", "--refit", "never")
    foreseen = iter([True])
    monkeypatch.setattr(Deadline, "leaves_a_refit", lambda *_: next(foreseen))
    monkeypatch.setattr(Deadline, "is_up", lambda *_: False)
    told = train("late", "--max-seconds", 2)
    assert told["cut_short"] == ["refit"]
    assert load_checkpoint(tmp_path / "late").version == load_checkpoint(tmp_path / "selected").version


def test_ngrams_that_would_take_too_long_are_those_of_every_tenth_text(
    train: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branches, "FEW_TEXTS", 2)
    monkeypatch.setattr(branches, "BRANCH_SHARE", 0.0)
    told = train("tenth", "--epochs", 2, "--max-seconds", 1000)
    assert told["cut_short"] == ["ngrams"]
    ngrams = load_checkpoint(tmp_path / "tenth").module.ngrams
    assert ngrams is not None
    train("again", "--epochs", 2, "--ngram-every", 10)
    assert load_checkpoint(tmp_path / "tenth").version == load_checkpoint(tmp_path / "again").version


@pytest.mark.parametrize(
    ("share", "cut", "options"),
    [
        ("BRANCH_SHARE", ["ngrams", "folds"], "--ngram-every 10 --threshold-folds 0"),
        ("FOLDS_SHARE", ["folds"], "--threshold-folds 0"),
        ("", [], "--threshold-folds 3"),
    ],
)
def test_folds_for_thresholds_are_the_first_to_give_way(
    train: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share: str,
    cut: list[str],
    options: str,
) -> None:
    monkeypatch.setattr(branches, "FEW_TEXTS", 2)
    if share:
        monkeypatch.setattr(branches, share, 0.0)
    words = ("--epochs", 1, "--train", write(tmp_path / "several.jsonl", rows()))
    assert train("short", *words, "--max-seconds", 1000)["cut_short"] == cut
    monkeypatch.undo()
    assert train("again", *words, *options.split())["cut_short"] == []
    assert load_checkpoint(tmp_path / "short").version == load_checkpoint(tmp_path / "again").version


def test_a_resumed_run_may_have_another_limit() -> None:
    assert Options(max_seconds=5).fingerprint() == Options().fingerprint()
    assert Options(max_steps=5).fingerprint() != Options().fingerprint()


def test_options_of_a_run_that_had_time_stay_as_they_are() -> None:
    assert as_done(Options(), RunState(fingerprint={})) == Options()


@pytest.mark.parametrize("words", ["--max-seconds 0", "--max-seconds nan", "--max-steps 0"])
def test_refuses_a_limit_of_nothing(words: str) -> None:
    name, value = words.split()
    with pytest.raises(Exception, match=f"{name} is {float(value) if 'sec' in name else value}, but must be from 1"):
        parse_options([name, value])
