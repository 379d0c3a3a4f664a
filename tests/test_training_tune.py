import json
import os
import shlex
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from nlp_app.checkpoint import load_checkpoint
from nlp_app.errors import ConfigError
from tests.conftest import ROW_LABELS, TEXTS, Refused, write_csv
from training import fit, phases, run, search, tune
from training.budget import Budget
from training.cooccurrence import SIZE
from training.fit import Run
from training.interrupt import StopRequest
from training.linear import Fitted
from training.options import Options
from training.prepare import prepare
from training.space import ORDERED, UNORDERED, command_line, defaults, neighbours, searched
from training.state import RunState, StateStore
from training.trials import Found, MemoryStore, Stock, gain, two_digits

FIXED = "--embedding-dim 8 --num-filters 4 --epochs 2 --batch-size 8 --validation-share 0.2 --seed 3"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [(f"{text} {number}", label) for number in range(5) for text, label in zip(TEXTS, ROW_LABELS, strict=True)]
    return write_csv(tmp_path_factory.mktemp("data") / "train.csv", rows)


def main(module: Any, *arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["program", *map(str, arguments)])
        code: int = module.main()
        return code


def tuned(data: Path, output: Path, *arguments: object) -> dict[str, Any]:
    """Search; gives tune.json."""
    assert main(tune, *FIXED.split(), "--train", data, "--output", output, *arguments) == 0
    told: dict[str, Any] = json.loads(output.with_name(f"{output.name}.tune.json").read_bytes())
    return told


@pytest.fixture(scope="module")
def found(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a search of six trials, one of which beats the defaults by more than chance, whatever it scores."""
    output = tmp_path_factory.mktemp("search") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "gain", lambda *_: (0.2, 0.1))
        told = tuned(data, output, "--trials", 6)
    assert [one["state"] for one in told["trials"]].count("complete") > 3
    return output


def told_of(output: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(output.with_name(f"{output.name}.tune.json").read_bytes())
    return told


def test_the_printed_command_gives_the_very_model_again(found: Path) -> None:
    program, flag, module, *words = shlex.split(told_of(found)["command"])
    assert (program, flag, module, words[-1]) == ("python", "-m", "training.run", f"{found}.again")
    assert main(run, *words) == 0
    assert load_checkpoint(found).version == load_checkpoint(Path(words[-1])).version
    assert load_checkpoint(found).trained["options"]["embedding_dim"] == 8


def test_the_best_score_wins(found: Path) -> None:
    trials = told_of(found)["trials"]
    best = max((one for one in trials if one["state"] == "complete"), key=lambda one: one["score"])
    assert best["number"] > 0
    trained = load_checkpoint(found).trained["options"]
    assert all(trained[name] == value for name, value in best["options"].items())


def test_a_trial_with_wider_vectors_starts_with_wider_ones(data: Path) -> None:
    base = Options(train=data, embedding_dim=8)
    stock = Stock(base, lambda: None)
    for dim in (8, 16):
        weight = stock.prepared(replace(base, embedding_dim=dim)).new_module(0).embedding.weight
        assert weight.shape[1] == dim
        assert weight[2:].square().mean(dim=1).sqrt().tolist() == pytest.approx([SIZE] * len(weight[2:]))


def test_each_option_that_was_given_stays(found: Path) -> None:
    varied = {name for one in told_of(found)["trials"] for name in one["options"]}
    assert varied
    assert not varied & {"embedding_dim", "num_filters", "batch_size", "epochs"}


def test_the_same_seed_gives_the_same_sequence_and_time_only_its_length(
    found: Path, data: Path, tmp_path: Path
) -> None:
    shorter = tuned(data, tmp_path / "model", "--trials", 4)["trials"]
    longer = told_of(found)["trials"]
    assert [(one["options"], one["score"]) for one in shorter] == [(one["options"], one["score"]) for one in longer[:4]]
    assert len({str(one["options"]) for one in longer}) > 4


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The version that training.run gives."""
    output = tmp_path_factory.mktemp("plain") / "model"
    main(run, *FIXED.split(), "--train", data, "--output", output)
    return load_checkpoint(output).version


def test_the_defaults_model_is_in_place_before_the_search_and_stays_where_nothing_is_better(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    going_on = search.Search._next

    def looking(self: search.Search) -> None:
        seen.append(load_checkpoint(tmp_path / "model").version)
        going_on(self)

    monkeypatch.setattr(search.Search, "_next", looking)
    monkeypatch.setattr(search, "gain", lambda *_: (0.1, 0.1))
    tuned(data, tmp_path / "model", "--trials", 3)
    assert [*seen, load_checkpoint(tmp_path / "model").version] == [plain] * 3
    assert "The defaults' model is in place; accuracy on 6 validation texts" in capsys.readouterr().out


def test_what_was_stored_stays_when_the_weights_move_on() -> None:
    store, weight = MemoryStore(), torch.ones(2)
    store.save(RunState(fingerprint={}), {"best": {"weight": weight}})
    weight += 1
    assert store.tensors("best")["weight"].tolist() == [1, 1]


def test_a_trial_that_fails_is_written_down_and_the_search_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([RuntimeError("you tried to allocate 9 TB"), ConfigError("there is no model to keep: the loss")])
    whole = phases.selection

    def failing(*arguments: Any) -> Any:
        for error in errors:
            raise error
        return whole(*arguments)

    monkeypatch.setattr(search, "selection", failing)
    told = tuned(data, tmp_path / "model", "--trials", 4)["trials"]
    assert [one["state"] for one in told] == ["complete", "failed", "failed", "complete"]
    assert told[1]["why"].startswith("out of memory: lower --batch-size")
    assert told[2]["why"] == "there is no model to keep: the loss"


def test_a_bug_is_no_failed_trial(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(search, "selection", failing)
    with pytest.raises(RuntimeError, match="a bug"):
        tuned(data, tmp_path / "model", "--trials", 2)


@pytest.mark.parametrize("better", [True, False])
def test_ctrl_c_ends_the_search_with_the_best_so_far(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: str, better: bool
) -> None:
    """In the third trial; a better model than the defaults' is not trained on all rows then, and can be had again."""
    trials = 0
    attempt = search.Search._attempt

    def counting(self: search.Search, *arguments: Any) -> Found:
        nonlocal trials
        trials += 1
        if trials == 2:
            os.kill(os.getpid(), signal.SIGINT)
        one = attempt(self, *arguments)
        if better and trials == 1:
            one.selected.scores["loss"] = 0.0
        return one

    monkeypatch.setattr(search.Search, "_attempt", counting)
    monkeypatch.setattr(search, "gain", lambda *_: (1.0 if better else 0.0, 0.5))
    told = tuned(data, tmp_path / "model", "--trials", 9)
    assert [one["state"] for one in told["trials"]] == ["complete", "complete", "interrupted"]
    assert told["ended"] == "you stopped it"
    assert (load_checkpoint(tmp_path / "model").version == plain) is not better
    assert ("--refit never" in told["command"]) is better
    main(run, *shlex.split(told["command"])[3:])
    assert load_checkpoint(tmp_path / "model.again").version == load_checkpoint(tmp_path / "model").version


def test_ctrl_c_in_the_refit_of_the_winner_leaves_its_selection(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refits = 0

    def stopping(*arguments: Any) -> None:
        nonlocal refits
        refits += 1
        if refits == 2:
            os.kill(os.getpid(), signal.SIGINT)
        fit.refit(*arguments)

    monkeypatch.setattr(phases, "refit", stopping)
    monkeypatch.setattr(search, "gain", lambda *_: (1.0, 0.5))
    command = tuned(data, tmp_path / "model", "--trials", 6)["command"]
    assert refits == 2
    assert "--refit never" in command
    main(run, *shlex.split(command)[3:])
    assert load_checkpoint(tmp_path / "model.again").version == load_checkpoint(tmp_path / "model").version


def test_ctrl_c_before_the_first_model_leaves_what_there_is(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = MemoryStore.save

    def stopping(self: MemoryStore, *arguments: Any) -> None:
        save(self, *arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(MemoryStore, "save", stopping)
    told = tuned(data, tmp_path / "model", "--trials", 9)
    assert [one["state"] for one in told["trials"]] == ["interrupted"]
    assert told["command"] is None
    assert "The defaults' model, as far as it was trained, is in place; accuracy on" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.tune.json"]


@pytest.mark.parametrize(("seconds", "trials"), [(1, 1), (1000, 3)])
def test_with_time_for_the_defaults_alone_there_is_no_other_trial(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, trials: int
) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.1
        return now[0]

    monkeypatch.setattr(Budget, "of_process", lambda seconds: Budget(seconds=seconds, clock=clock))
    told = tuned(data, tmp_path / "model", "--trials", 3, "--max-seconds", seconds)
    assert len(told["trials"]) == trials
    assert told["trials"][0]["state"] == ("cut short" if trials == 1 else "complete")
    main(run, *shlex.split(told["command"])[3:])
    assert load_checkpoint(tmp_path / "model.again").version == load_checkpoint(tmp_path / "model").version


def test_a_search_ends_where_nothing_is_left_to_try(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FRUITLESS", 3)
    fixed = (
        "--learning-rate 0.02 --dropout 0.2 --token-dropout 0.1 --label-smoothing 0 --kernel-sizes 1 3 "
        "--class-weights none --tokenizer words --ngrams words"
    )
    told = tuned(data, tmp_path / "model", "--trials", 30, *fixed.split())
    assert [one["state"] for one in told["trials"]] == ["complete", *["repeated"] * 3]
    assert told["ended"] == "nothing is left to try"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "a search has no end of its own: give --max-seconds, or --trials"),
        ("--trials 0", "--trials is 0, but must be 1 or more"),
        ("--trials 2 --resume", "--resume: no search goes on where another ended: leave it out"),
        ("--trials 2", "model.tune.json exists: name another --output, or replace both with --overwrite"),
    ],
)
def test_refuses(refused: Refused, data: Path, tmp_path: Path, words: str, message: str) -> None:
    (tmp_path / "model.tune.json").touch()
    assert message in refused(tune.main, "--train", data, "--output", tmp_path / "model", *words.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.tune.json"]


def test_a_search_that_cannot_begin_leaves_nothing(
    refused: Refused, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, absent = tmp_path / "out" / "model", tmp_path / "absent.csv"
    common = ("--trials", 2, "--output", output)
    assert f"there is no file {absent}" in refused(tune.main, "--train", absent, *common)
    assert not output.parent.exists()

    def failing(*_: Any) -> Any:
        raise ConfigError("there is no model to keep: the loss")

    monkeypatch.setattr(search, "train", failing)
    assert "there is no model to keep: the loss" in refused(tune.main, "--train", data, *common)
    assert list(output.parent.iterdir()) == []


def test_ctrl_c_before_the_first_model_leaves_the_one_that_was_to_be_replaced(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(run, *FIXED.split(), "--train", data, "--output", tmp_path / "model")
    before = load_checkpoint(tmp_path / "model").version
    (tmp_path / "model.tune.json").write_text("what the search before found")
    monkeypatch.setattr(MemoryStore, "save", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    monkeypatch.setattr(phases, "best_module", lambda prepared, *_: prepared.new_module(0).eval())
    with pytest.raises(KeyboardInterrupt, match=r"model still holds the model that was there$"):
        tuned(data, tmp_path / "model", "--trials", 2, "--seed", 4, "--overwrite")
    assert load_checkpoint(tmp_path / "model").version == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.tune.json"]
    assert (tmp_path / "model.tune.json").read_text() == "what the search before found"


def test_every_default_is_one_of_the_values_that_are_tried() -> None:
    space = searched(Options(), set())
    assert space == {**ORDERED, **UNORDERED}
    assert defaults(Options(), space).keys() == space.keys()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in {**ORDERED, **UNORDERED}.items() for value in values]
)
def test_every_value_keeps_the_rules(name: str, value: Any) -> None:
    assert getattr(replace(Options(), **{name: value}), name) == value


@pytest.mark.parametrize("given", [set(), set(ORDERED), {*ORDERED, *UNORDERED}])
def test_neighbours_differ_from_the_defaults_in_few_options_and_are_drawn_by_the_seed(given: set[str]) -> None:
    space = searched(Options(), given)
    start = defaults(Options(), space)
    drawn = neighbours(space, start, seed=1, count=20)
    assert drawn == neighbours(space, start, seed=1, count=20)
    for one in drawn:
        assert one.keys() == space.keys()
        assert sum(one[name] != start[name] for name in one) == min(2, len(space))
        assert all(0 <= place < len(space[name]) for name, place in one.items())


def test_what_the_loss_does_not_take_is_not_tried() -> None:
    assert "label_smoothing" not in searched(Options(loss="nll"), set())
    assert "label_smoothing" not in searched(Options(focal_gamma=2.0), set())
    assert "batch_size" not in searched(Options(micro_batch_size=64), {"micro_batch_size"})


def test_a_command_line_tells_every_option_that_is_no_default() -> None:
    options = Options(train=Path("my texts.csv"), kernel_sizes=(2, 4), compile=True, dropout=0.25, max_seconds=9)
    told = "--train 'my texts.csv' --kernel-sizes 2 4 --dropout 0.25 --compile --output checkpoint.again"
    assert command_line(options) == f"python -m training.run {told}"


@pytest.mark.parametrize("measure", ["loss", "accuracy", "macro-f1"])
def test_a_model_is_no_better_than_itself(data: Path, measure: str) -> None:
    options = Options(train=data, epochs=1, embedding_dim=8, num_filters=4, validation_share=0.2, select_by=measure)
    prepared = prepare(options, Console(quiet=True))
    store: StateStore = MemoryStore()
    one = Run(state=RunState(fingerprint={}), store=store, stop=StopRequest(), console=Console(quiet=True))
    selected = phases.selection(options, prepared, one, Fitted())
    found = Found(options=options, prepared=prepared, run=one, selected=selected)
    assert gain(found, found) == (0.0, 0.0)
    assert abs(found.scores_of([list(range(len(prepared.validation)))])[0]) == pytest.approx(abs(found.score), abs=1e-6)


def test_a_small_gain_is_no_gain_of_nothing() -> None:
    assert [two_digits(value) for value in (0.0, 0.0000212, 0.0456, 0.5, 1.0)] == ["0", "0.000021", "0.046", "0.5", "1"]
