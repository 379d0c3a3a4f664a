"""An epoch in which rare classes come more often: its size, its shares, and that a resumed run draws the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Refused, write_csv
from tests.test_training_assemble import prepared_for
from tests.test_training_learner import DATA, assert_same, make_learner
from training import run
from training.assemble import new_learner
from training.batches import Dataset, epoch_batches
from training.console import make_console
from training.sampling import SAMPLINGS, shares, take

TARGETS = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.sampled_from(SAMPLINGS[1:]), st.integers(0, 5))
def test_an_epoch_has_as_many_texts_and_each_to_within_one_of_its_share(
    labels: list[int], sampling: str, seed: int
) -> None:
    found = shares(torch.tensor(labels), sampling)
    assert found is not None
    times = np.bincount(take(np.random.default_rng(seed), found), minlength=len(labels))
    assert times.sum() == len(labels)
    assert np.abs(times - len(labels) * found).max() < 1 + 1e-6


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [("balanced", (1 / 3, 1 / 3, 1 / 3)), ("sqrt", tuple(np.sqrt([60, 30, 10]) / np.sqrt([60, 30, 10]).sum()))],
)
def test_the_shares_of_the_classes(sampling: str, expected: tuple[float, ...]) -> None:
    found = shares(TARGETS, sampling)
    assert found is not None
    assert np.bincount(TARGETS.numpy(), weights=found) == pytest.approx(expected)
    epochs = [epoch_batches([5] * 100, batch_size=8, seed=0, epoch=epoch, shares=found) for epoch in range(1, 101)]
    taken = np.concatenate([rows for batches in epochs for rows in batches])
    assert np.bincount(TARGETS.numpy()[taken]) / len(taken) == pytest.approx(expected, abs=0.01)
    assert len(np.unique(taken)) == len(TARGETS), "no text is left out for good"


def test_none_takes_each_text_once() -> None:
    assert shares(TARGETS, "none") is None


def test_a_resumed_run_draws_what_the_unbroken_one_draws() -> None:
    data = Dataset(DATA.encoded, (DATA.targets > 1).long())  # two texts of 0 for one of 1
    one, half, rest = (make_learner(sampling="balanced") for _ in range(3))
    one.advance(data, to=6, on_step=lambda *_: None)
    half.advance(data, to=2, on_step=lambda *_: None)  # inside the first epoch
    rest.restore(half.tensors(), json.loads(json.dumps(half.values())))
    rest.advance(data, to=6, on_step=lambda *_: None)
    assert_same(one.module, rest.module)
    other = make_learner()
    other.advance(data, to=6, on_step=lambda *_: None)
    assert not torch.equal(one.module.output.weight, other.module.output.weight)


def skewed(path: Path) -> Path:
    rows = [(f"snow and ice {number}", "cold") for number in range(30)]
    return write_csv(path, [*rows, *((f"sun and fire {number}", "hot") for number in range(6))])


@pytest.mark.parametrize(
    ("given", "of_the_loss"), [({"sampling": "sqrt"}, False), ({}, True), ({"class_weights": ("1", "2")}, True)]
)
def test_what_is_drawn_evenly_is_not_weighed_by_auto_too(
    tmp_path: Path, given: dict[str, object], of_the_loss: bool
) -> None:
    options, prepared = prepared_for(skewed(tmp_path / "skewed.csv"), **given)
    learner = new_learner(options, prepared, prepared.train, make_console())
    assert prepared.class_weights is not None, "the n-grams are fitted with them in any case"
    assert (learner.recipe.loss.class_weights is not None) is of_the_loss


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "a text of the rarest weighs 4.0 times one of the most frequent\n"),
        ({"sampling": "balanced"}, "a text of the rarest weighs 4.0 times one of the most frequent in the n-grams\n"),
        ({"sampling": "balanced", "ngrams": "none"}, ""),
    ],
)
def test_tells_of_weights_where_they_are_used(
    tmp_path: Path, given: dict[str, object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared_for(skewed(tmp_path / "skewed.csv"), **({"ngrams": "words"} | given))
    screen = capsys.readouterr().out
    assert told in screen
    assert ("classes are skewed" in screen) is bool(told)


def test_refuses_to_balance_twice(refused: Refused, tmp_path: Path) -> None:
    train = skewed(tmp_path / "skewed.csv")
    message = refused(run.main, "--train", train, "--sampling", "sqrt", "--class-weights", "balanced")
    assert "--sampling and --class-weights balanced both even out the classes: leave one of them out" in message


def test_refuses_lists_of_labels(refused: Refused, tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", [("snow", "cold;white"), ("sun", "hot"), ("ice", "cold")] * 5)
    options = ("--train", train, "--label-separator", ";", "--output", tmp_path / "out")
    message = refused(run.main, *options, "--sampling", "balanced")
    assert "--sampling is for one label a text, but these texts have lists of labels: leave it out" in message
    assert not (tmp_path / "out").exists()
