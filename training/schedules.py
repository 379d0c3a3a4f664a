"""Schedules of the learning rate, all of them torch's own, after a warm-up of WARM_UP_STEPS."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

WARM_UP_STEPS = 50
SCHEDULES = ("constant", "one-cycle", "cosine", "linear", "plateau")


class Schedule:
    """The rate of each step, and for `plateau` what each evaluation makes of it."""

    def __init__(self, name: str, optimizer: Optimizer, *, steps: int, patience: int) -> None:
        """One of SCHEDULES.

        Args:
            name: constant; one-cycle (Smith and Topin 2018), cosine and linear fall to about 0 at the last step;
                plateau halves the rate when half of the patience brought no lower validation loss.
            optimizer: whose rate it sets, now and at each step.
            steps: that training takes at most.
            patience: of early stopping, in evaluations.
        """
        self._steps: list[LRScheduler] = []
        self._plateau: ReduceLROnPlateau | None = None
        if name == "one-cycle":
            rates = [group["lr"] for group in optimizer.param_groups]
            self._steps.append(OneCycleLR(optimizer, max_lr=rates, total_steps=max(2, steps)))
            return
        # Chained: each multiplies the rate by its own factor.
        self._steps.append(LinearLR(optimizer, start_factor=0.1, total_iters=WARM_UP_STEPS))
        if name == "cosine":
            self._steps.append(CosineAnnealingLR(optimizer, T_max=steps))
        elif name == "linear":
            self._steps.append(LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps))
        elif name == "plateau":
            self._plateau = ReduceLROnPlateau(optimizer, factor=0.5, patience=max(1, patience // 2) - 1)

    def step(self) -> None:
        """After each step of the optimizer."""
        for schedule in self._steps:
            schedule.step()

    def evaluated(self, loss: float) -> None:
        """After each evaluation.

        Args:
            loss: of the validation part.
        """
        if self._plateau is not None:
            self._plateau.step(loss)

    def state_dict(self) -> dict[str, Any]:
        """As JSON values."""
        plateau = self._plateau.state_dict() if self._plateau is not None else None
        return {"steps": [schedule.state_dict() for schedule in self._steps], "plateau": plateau}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where state_dict was called."""
        for schedule, values in zip(self._steps, state["steps"], strict=True):
            schedule.load_state_dict(dict(values))
        if self._plateau is not None:
            self._plateau.load_state_dict(dict(state["plateau"]))
