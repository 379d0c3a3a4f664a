"""The sections of docs/notes-measured.md say what their figures say: other figures, another verdict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import checkpointing, common, freezing, loop, precision, sharding_scores, sizes, stopping
from training.batches import Dataset
from training.interrupt import StopRequest
from training.progress import Watch

CPU = torch.device("cpu")


def test_rounds_take_the_works_in_orders_that_change() -> None:
    taken: list[int] = []
    works = [lambda place=place: taken.append(place) for place in range(4)]
    rounds = common.rounds_of(works, CPU, 30)
    assert [len(times) for times in rounds] == [4] * 30
    assert taken[:4] == [0, 1, 2, 3]
    orders = [tuple(taken[start : start + 4]) for start in range(4, len(taken), 4)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len(set(orders)) > 10


def test_the_seconds_of_a_round_stand_in_the_order_of_the_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "seconds", lambda work, device: work())
    assert common.rounds_of([lambda: 1.0, lambda: 2.0, lambda: 3.0], CPU, 9) == [[1.0, 2.0, 3.0]] * 9


def test_the_middle_half() -> None:
    assert common.middle([5.0, 1.0, 2.0, 4.0, 3.0]) == {"low": 2.0, "median": 3.0, "high": 4.0}
    assert common.spread([1.0]) == 0


def seconds_of(cost: Any) -> list[float]:
    """A round in which each size, and each power of two again, takes what cost says."""
    return [cost(size) for size in (*sizes.SIZES, *sizes.POWERS)]


def test_sizes_on_a_straight_line_of_seconds_cost_the_same() -> None:
    rounds = [seconds_of(lambda size, pace=pace: pace * (3e-4 + 2e-6 * size)) for pace in (1.0, 1.5)]
    for row in sizes.by_size(rounds):
        assert row["ratio"] == (pytest.approx(1) if 64 <= row["size"] <= 256 else None)
    assert [sizes.by_kind(times, kind) for times in rounds for kind in sizes.KINDS] == pytest.approx([1] * 6)


def test_what_lies_above_the_line_is_seen() -> None:
    times = seconds_of(lambda size: 1e-6 * size * (1 if size % 16 == 0 else 1.25))
    found = {kind: sizes.by_kind(times, kind) for kind in sizes.KINDS}
    assert found == pytest.approx({sizes.CONTROL: 1, sizes.MULTIPLES: 1, sizes.OTHERS: 1.25})


@pytest.mark.parametrize(
    ("multiples", "others", "word"),
    [
        (0.99, 1.01, "does not hold"),
        (0.99, 1.04, "holds only when the size is no multiple of 16"),
        (1.04, 1.04, "holds"),
    ],
)
def test_the_verdict_on_sizes_is_that_of_figures_beyond_the_noise(multiples: float, others: float, word: str) -> None:
    kinds = {sizes.CONTROL: 1.0, sizes.MULTIPLES: multiples, sizes.OTHERS: others}
    group = {"precision": "float32", "name": "num_filters"}
    result = {
        "device": "CPU", "texts": 16, "tokens": 32, "rounds": 9,
        "rows": [{**group, "size": size, "seconds": 1e-6 * size, "ratio": 1.0} for size in sizes.SIZES],
        "kinds": [{**group, "kind": kind, "low": ratio - 0.01, "median": ratio, "high": ratio + 0.01}
                  for kind, ratio in kinds.items()],
    }  # fmt: skip
    text = sizes.section(result)
    assert f"**Verdict: {word}.** Multiples of 16 take {multiples:.2f}" in text
    assert f"other sizes in {int(others > 1.03)}." in text


def speeds(**ways: tuple[float, float]) -> dict[str, Any]:
    """Made-up figures: the speed of each way on short and on long texts, 0.02 above and below."""
    every = {"float32": (1.0, 1.0), "bf16": (1.0, 1.0), "compiled": (1.0, 1.0), "bf16, compiled": (1.0, 1.0),
             precision.CONTROL: (1.0, 1.0), **ways}  # fmt: skip
    rows = [
        {"texts": case, "tokens": 16, "way": way, "texts_per_s": 100.0, "low": speed - 0.02, "median": speed,
         "high": speed + 0.02}
        for way, pair in every.items() for case, speed in zip(precision.CASES, pair, strict=True)
    ]  # fmt: skip
    return {"device": "CPU", "rounds": 9, "rows": rows}


def test_the_verdict_on_precision_is_that_of_the_speeds_beyond_the_noise() -> None:
    assert "**Verdict: does not hold** here" in precision.section(speeds(bf16=(1.03, 0.97)))
    text = precision.section(speeds(bf16=(1.5, 1.03), compiled=(0.8, 1.0)))
    assert "**Verdict: holds in part** here" in text
    assert "bf16 is faster on short texts (1.50), no different on long texts (1.03)" in text
    assert "compiled is slower on short texts (0.80), no different on long texts (1.00)" in text
    fast = dict.fromkeys(("bf16", "compiled", "bf16, compiled"), (1.2, 1.2))
    assert "**Verdict: holds** here" in precision.section(speeds(**fast))


def frozen(bottom: float, gradients: Sequence[Sequence[str]]) -> str:
    times = (1.0, 0.7, 0.3, bottom)
    rows = [
        {"frozen": list(names), "gradients": list(have), "mb": 9.0, "memory": 1.0, "seconds": time, "time": time}
        for names, have, time in zip(freezing.FROZEN, gradients, times, strict=True)
    ]
    return freezing.section({"device": "CPU", "rows": rows})


def test_the_verdict_on_freezing_is_that_of_the_gradients_and_of_the_time() -> None:
    right = (("blocks", "embedding", "output"), ("blocks", "output"), ("output",), ("embedding",))
    through = frozen(0.8, right)
    assert "**Verdict: does not hold** as it is written. Gradients are stored for the weights that require" in through
    assert "What is true in it: the backward pass must still go through all" in through
    free = frozen(0.3, right)
    assert "What is true in it" not in free
    assert "Nor does the backward pass cost more for going through frozen weights: with only" in free
    kept = frozen(0.8, (right[0], right[0], right[2], right[3]))
    assert "**Verdict: holds** for embedding. Gradients are stored for frozen weights too (embedding)" in kept


def means(**losses: tuple[float, float, float]) -> dict[str, Any]:
    """Of each rule: the share of accuracy lost by two seeds, and the share of epochs saved."""
    every = {
        "none": (0.02, 0.03, 0.0),
        "last_3": (0.0, 0.0, 0.7),
        "last_5": (0.0, 0.0, 0.6),
        "last_10": (0.0, 0.0, 0.5),
    }
    names = {"none": stopping.NONE, **{f"last_{k}": f"loss, last {k}" for k in (3, 5, 10)}}
    return {
        names[name]: {"lost": [one, other], "saved": saved} for name, (one, other, saved) in {**every, **losses}.items()
    }


def test_the_verdict_on_stopping_is_that_of_the_points_lost() -> None:
    text = stopping.verdict(means())
    assert "**Verdict: holds.** Training on to the last epoch loses 2.50 ± 0.71 points." in text
    assert text.endswith("A larger k, 5 or 10, saves less (60% and 50%) and gains nothing beyond the spread.")
    assert "**Verdict: holds only when 1.00 points may be lost.**" in stopping.verdict(means(last_3=(0.01, 0.01, 0.7)))
    assert "**Verdict: holds.**" in stopping.verdict(means(last_3=(0.01, -0.01, 0.7)))
    assert "**Verdict: does not hold.**" in stopping.verdict(means(last_3=(0.03, 0.03, 0.7)))
    assert "**Verdict: does not hold.**" in stopping.verdict(means(last_3=(0.0, 0.0, 0.2)))


def test_a_larger_k_that_gains_is_told() -> None:
    text = stopping.verdict(means(last_3=(0.01, 0.012, 0.5), last_10=(0.0, 0.0, 0.6)))
    assert text.endswith(
        "A larger k, 5 or 10, saves no less (60% and 60%) and gains 1.10 points with 5 and 1.10 points with 10."
    )


def scored(*fast: float) -> str:
    runs = {
        way: [{"accuracy": accuracy, "loss": 0.4} for accuracy in found]
        for way, found in {"whole": (0.85, 0.86, 0.87), "fast": fast}.items()
    }
    row = {"set": "trec6", "blocks": 4, "runs": runs}
    return sharding_scores.section({"device": "CPU", "seeds": 3, "size": 8, "rows": [row]})


def test_what_fast_parts_cost_is_told_beside_the_spread() -> None:
    assert "change the accuracy by -5.00 points on trec6 with 4 blocks, beyond the scores' spread" in scored(
        0.80, 0.81, 0.82
    )
    near = scored(0.84, 0.86, 0.88)
    assert (
        "change the accuracy by +0.00 points on trec6 with 4 blocks, within the scores' spread over the seeds (2.00)"
        in near
    )
    assert "| +0.00 ± 1.00 |" in near


def checkpointed(memory: float) -> str:
    rows = [
        {"blocks": blocks, "segment": 2, "plain_mb": 9.0, "recomputed_mb": 9 * share, "memory": share, "time": 1.33}
        for blocks, share in ((1, memory), (16, 0.3))
    ]
    return checkpointing.section({"device": "CPU", "texts": 64, "tokens": 64, "rows": rows})


def test_a_single_block_gains_nothing_only_where_it_gains_nothing() -> None:
    assert "With a single block there is nothing to gain: 0.95 of the memory" in checkpointed(0.95)
    assert "With a single block it takes 0.50 of the memory." in checkpointed(0.5)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The rows of every batch that is made."""
    rows: list[list[int]] = []
    batch = Dataset.batch

    def watched(self: Dataset, chosen: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rows.append(np.asarray(chosen).tolist())
        return batch(self, chosen)

    monkeypatch.setattr(Dataset, "batch", watched)
    return rows


def test_both_loops_take_the_same_batches_beyond_an_epoch(
    train_csv: Path, taken: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Watch, "step", lambda *_: told.append("step"))
    monkeypatch.setattr(StopRequest, "check", lambda *_: told.append("check"))
    found = loop.row(train_csv, CPU, 3, 4)
    steps = 3 * (4 + 1)  # with the turn to warm up
    assert taken[:steps] == taken[steps:]
    assert len({tuple(rows) for rows in taken}) == steps  # an epoch of this set is one batch, in an order of its own
    assert told == ["check", "step"] * steps
    assert 0 < found["ratio_low"] <= found["ratio"] <= found["ratio_high"]


def test_the_texts_a_second_of_the_loop_are_those_of_its_ratio() -> None:
    row = {"set": "imdb", "bare": 500.0, "ratio": 0.95, "ratio_low": 0.94, "ratio_high": 0.96}
    result = {"device": "CPU", "bar": 0.9, "turns": {"imdb": 15}, "rows": [row]}
    assert "| imdb | 500 | 0.950 (0.940 to 0.960) | 475 |" in loop.section(result)
    assert "The bar is 0.9: kept." in loop.section(result)
    assert "The bar is 0.9: missed." in loop.section({**result, "rows": [{**row, "ratio": 0.85}]})
