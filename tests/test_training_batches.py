import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_app.config import ModelConfig
from nlp_app.tokenizer import PAD_ID
from tests.conftest import LABELS, ROW_LABELS, TEXTS, make_tokenizer
from tests.test_training_data import examples
from training.batches import BATCHES_PER_POOL, Dataset, epoch_batches, one_ahead, steps_per_epoch, targets_of

LENGTHS = st.lists(st.integers(1, 50), min_size=2, max_size=200)


@given(LENGTHS, st.integers(2, 20), st.integers(0, 3), st.integers(1, 3))
def test_an_epoch_takes_every_row_once_and_never_one_alone(
    lengths: list[int], batch_size: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(lengths, batch_size=batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(2 <= len(rows) <= batch_size + 1 for rows in batches)
    again = epoch_batches(lengths, batch_size=batch_size, seed=seed, epoch=epoch)
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


def test_epochs_and_seeds_differ() -> None:
    orders = [
        np.concatenate(epoch_batches([5] * 50, batch_size=8, seed=seed, epoch=epoch)).tolist()
        for seed, epoch in ((0, 1), (0, 2), (1, 1))
    ]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_batches_hold_texts_of_like_length_but_not_the_same_texts_each_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 4 * 8 * BATCHES_PER_POOL)
    epochs = [epoch_batches(lengths.tolist(), batch_size=8, seed=0, epoch=epoch) for epoch in (1, 2)]
    spread = np.mean([np.ptp(lengths[rows]) for rows in epochs[0]])
    assert spread < 0.2 * np.ptp(lengths)
    means = [lengths[rows].mean() for rows in epochs[0]]
    assert 0.3 < np.mean(np.diff(means) > 0) < 0.7  # neither rising nor falling, within pools too
    assert {frozenset(rows.tolist()) for rows in epochs[0]}.isdisjoint(frozenset(rows.tolist()) for rows in epochs[1])


CONFIG = ModelConfig(labels=LABELS, vocab_size=9, max_length=6)


def test_a_dataset_pads_and_places_its_labels() -> None:
    tokenizer = make_tokenizer()
    data = Dataset.of(examples(ROW_LABELS, TEXTS), tokenizer=tokenizer, config=CONFIG)
    input_ids, targets = data.batch(np.array([4, 1]))
    assert input_ids.tolist() == tokenizer.encode_batch([TEXTS[4], TEXTS[1]], max_length=6).tolist()
    assert targets.tolist() == [2, 0]
    assert (input_ids[:, 6:] == PAD_ID).all()


def test_datasets_add_up() -> None:
    one = Dataset.of(examples(ROW_LABELS, TEXTS), tokenizer=make_tokenizer(), config=CONFIG)
    assert len(one + one) == 2 * len(one)
    assert (one + one).targets.tolist() == [*one.targets.tolist(), *one.targets.tolist()]


def test_a_label_that_is_not_a_class_is_a_bug_of_the_caller() -> None:
    with pytest.raises(KeyError):
        Dataset.of(examples(["mild"]), tokenizer=make_tokenizer(), config=CONFIG)


def test_several_labels_are_a_row_of_zeros_and_ones() -> None:
    several = examples([("hot", "cold"), (), ("warm",)])
    config = replace(CONFIG, multi_label=True)
    data = Dataset.of(several, tokenizer=make_tokenizer(), config=config)
    assert data.targets.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert targets_of(examples([("hot", "mild")]), config).tolist() == [[0, 0, 1]]
    assert targets_of(examples(["mild", "hot"]), CONFIG).tolist() == [-1, 2]


@pytest.mark.parametrize("texts", [1, 2, 7, 8, 9, 16, 17, 18, 129, 130])
def test_the_number_of_steps_is_that_of_the_batches(texts: int) -> None:
    lengths = [1 + number % 5 for number in range(texts)]
    assert steps_per_epoch(texts, 8) == len(epoch_batches(lengths, batch_size=8, seed=0, epoch=1))


def test_work_that_is_one_ahead_comes_in_order_and_once() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return item * item

    assert list(one_ahead(work, range(5))) == [0, 1, 4, 9, 16]
    assert begun == [0, 1, 2, 3, 4]
    assert list(one_ahead(work, [])) == []


def test_work_that_is_one_ahead_is_begun_before_the_one_before_is_used() -> None:
    begun = [threading.Event() for _ in range(3)]

    def work(item: int) -> int:
        begun[item].set()
        return item

    results = one_ahead(work, range(3))
    assert next(results) == 0
    assert begun[1].wait(10)
    assert not begun[2].is_set()


def test_an_error_in_work_that_is_one_ahead_is_raised_in_its_place() -> None:
    results = one_ahead(lambda item: 1 // item, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
