from collections.abc import Sequence
from typing import Any

import pytest
import torch

from nlp_app.config import ModelConfig
from training.measure import Work
from training.sizes import explain

CPU = torch.device("cpu")


def advise(times: list[float], **sizes: int) -> list[str]:
    """What is said where the sizes below, at and above take these times."""
    asked = []

    def timer(works: Sequence[Work], device: torch.device) -> list[float]:
        for work in works:
            work()  # the steps can be taken
        asked.append(device)
        return times

    chosen: dict[str, Any] = {"embedding_dim": 16, "num_filters": 16, **sizes}
    config = ModelConfig(labels=("a", "b"), vocab_size=9, **chosen)
    advice = explain(config, batch_size=4, tokens=6, device=CPU, timer=timer)
    assert len(asked) == sum(size % 16 != 0 for size in sizes.values())
    assert [one.costs_speed for one in advice] == [" costs speed" in str(one) for one in advice]
    return [str(one) for one in advice]


def test_a_size_that_a_larger_one_does_not_exceed_in_time_costs_speed() -> None:
    assert advise([0.7, 1.0, 0.9], num_filters=65)[1] == (
        "--num-filters 65 costs speed: 80 takes 0.90 of its time on cpu, 64 takes 0.70"
    )


def test_within_the_noise_it_costs_speed_too() -> None:
    assert "costs speed" in advise([0.7, 1.0, 1.02], embedding_dim=63)[0]


def test_a_size_whose_larger_neighbour_takes_longer_costs_none() -> None:
    assert advise([0.7, 1.0, 1.2], embedding_dim=100)[0] == (
        "--embedding-dim 100 costs no speed: 112 takes 1.20 of its time on cpu, 96 takes 0.70"
    )


def test_below_the_least_multiple_there_is_none_smaller() -> None:
    assert advise([1.0, 1.0, 1.0], num_filters=5)[1] == "--num-filters 5 costs speed: 16 takes 1.00 of its time on cpu"


@pytest.mark.parametrize("name", ["embedding-dim", "num-filters"])
def test_multiples_are_not_measured(name: str) -> None:
    assert f"--{name} 16 is a multiple of 16" in " ".join(advise([1.0, 1.0, 1.0]))
