import json

import pytest
import torch

from training.schedules import SCHEDULES, WARM_UP_STEPS, Schedule

STEPS = 200


def rates(name: str, losses: list[float] | None = None, *, resume_at: int = 0) -> list[float]:
    """The rate of each of 200 steps, with an evaluation after every 20."""

    def new() -> tuple[torch.optim.Optimizer, Schedule]:
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return optimizer, Schedule(name, optimizer, steps=STEPS, patience=2)

    optimizer, schedule = new()
    found = []
    for step in range(STEPS):
        if step and step == resume_at:
            values = json.loads(json.dumps([optimizer.state_dict()["param_groups"], schedule.state_dict()]))
            optimizer, schedule = new()
            optimizer.load_state_dict({"state": {}, "param_groups": values[0]})
            schedule.load_state_dict(values[1])
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        if losses and step % 20 == 19:
            schedule.evaluated(losses[step // 20])
    return found


def test_constant_warms_up_and_stays() -> None:
    found = rates("constant")
    assert found[0] == pytest.approx(0.1)
    assert found[WARM_UP_STEPS:] == pytest.approx([1.0] * (STEPS - WARM_UP_STEPS))


@pytest.mark.parametrize("name", ["one-cycle", "cosine", "linear"])
def test_the_others_rise_and_then_fall_to_nothing(name: str) -> None:
    found = rates(name)
    top = max(range(STEPS), key=found.__getitem__)
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert found[-1] < 0.01
    assert 0.5 < max(found) <= 1.0


def test_linear_is_half_at_half_of_the_steps() -> None:
    assert rates("linear")[STEPS // 2] == pytest.approx(0.5)


def test_plateau_halves_where_the_loss_does_not_fall() -> None:
    losses = [1.0, 0.9, 0.8, 0.8, 0.7, 0.7, 0.7, 0.6, 0.5, 0.4]
    found = rates("plateau", losses)
    assert [found[step] for step in (60, 80, 100, 120, 140, 160, 199)] == pytest.approx(
        [1.0, 0.5, 0.5, 0.25, 0.125, 0.125, 0.125]
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_schedule_goes_on_as_the_unbroken_one(name: str) -> None:
    losses = [1.0, 0.9, 0.9, 0.95, 0.7, 0.7, 0.7, 0.6, 0.5, 0.4]
    assert rates(name, losses, resume_at=61) == rates(name, losses)
