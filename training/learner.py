"""Learner: a module in training, and everything that its next step depends on."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from nlp_app.model import TextClassifier
from training.batches import Rows, epoch_batches, on_device, steps_per_epoch
from training.recipe import Recipe
from training.sampling import NONE, shares
from training.schedules import Schedule
from training.step import GradientStep


class Diverged(Exception):
    """The loss became NaN or infinite; the weights are those of the step before."""


class Learner:
    """A module, the running mean of its weights, AdamW, a rate that warms up, and the number of steps taken.

    Chance enters by (seed, step) and (seed, epoch) alone, never by what was drawn before: so a run that goes on from
    saved tensors takes the very steps that the unbroken one takes.
    """

    def __init__(
        self,
        *,
        module: TextClassifier,
        recipe: Recipe,
        device: torch.device,
        texts: int,
        say: Callable[[str], None] = print,
    ) -> None:
        """A learner at its first step.

        Args:
            module: to be trained, in place.
            recipe: how.
            device: where.
            texts: in the training set.
            say: told where memory ran out.
        """
        self.recipe = recipe
        self.device = device
        self.step = 0
        self.steps_per_epoch = steps_per_epoch(texts, recipe.batch_size)
        self.module = module.to(device)
        for name in recipe.freeze:
            module.get_submodule(name).requires_grad_(False)
        self.average = copy.deepcopy(self.module).requires_grad_(False)
        # Found once: torch's AveragedModel looks for them at every step, which takes 5 % of a step on short texts.
        self._means, self._tensors = ([*one.parameters(), *one.buffers()] for one in (self.average, self.module))
        self.optimizer = torch.optim.AdamW(_groups(module, recipe), lr=recipe.learning_rate, fused=True)
        # By default constant: the mean of the weights does what a falling rate is for, and lets training stop any time.
        steps = self.steps_per_epoch * recipe.epochs
        self.schedule = Schedule(recipe.schedule, self.optimizer, steps=steps, patience=recipe.patience)
        self.gradient_step: Callable[..., float] = GradientStep(
            module=self.module, recipe=recipe, device=device, say=say
        )
        self.evaluated_too: Callable[[float], None] = lambda _: None
        """Of the learners of other processes that take the same steps."""

    @property
    def epoch(self) -> float:
        """Passes over the training texts that are done."""
        return self.step / self.steps_per_epoch

    def advance(self, data: Rows, *, to: int, on_step: Callable[[int, float], None]) -> float:
        """Train up to a step.

        Args:
            data: the training set.
            to: the number of steps that are then done, more than are done now.
            on_step: called after each step with the number of those done and the mean loss since this call.

        Returns:
            The mean loss since this call.

        Raises:
            Diverged: the loss of a step was no finite number.
        """
        self.module.train()
        total, first = 0.0, self.step
        while self.step < to:
            for input_ids, targets in on_device(data, self._rest_of_epoch(data)[: to - self.step], self.device):
                total += self._take_step(input_ids, targets)
                on_step(self.step, total / (self.step - first))
        return total / (self.step - first)

    def evaluated(self, loss: float) -> None:
        """Heed an evaluation, given the loss of the validation part."""
        self.schedule.evaluated(loss)
        self.evaluated_too(loss)

    @property
    def averaged(self) -> TextClassifier:
        """The module with the mean weights, in eval mode."""
        return self.average.eval()

    def tensors(self) -> dict[str, Tensor]:
        """The part of the state that is tensors, by name."""
        named = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        named |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            named |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
        return named

    def values(self) -> dict[str, Any]:
        """The part of the state that is numbers, as JSON values."""
        groups = self.optimizer.state_dict()["param_groups"]
        return {"step": self.step, "schedule": self.schedule.state_dict(), "groups": groups}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go back to where tensors() and values() were called."""
        self.module.load_state_dict(_below("module.", tensors))
        self.average.load_state_dict(_below("average.", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _below("optimizer.", tensors).items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": values["groups"]})
        self.schedule.load_state_dict(dict(values["schedule"]))
        self.step = values["step"]

    def _rest_of_epoch(self, data: Rows) -> list[Any]:
        epoch, done = divmod(self.step, self.steps_per_epoch)
        sampling = self.recipe.sampling
        return epoch_batches(
            data.lengths,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            epoch=epoch + 1,
            shares=None if sampling == NONE else shares(data.targets, sampling),
        )[done:]

    def _take_step(self, input_ids: Tensor, targets: Tensor) -> float:
        loss = self.gradient_step(input_ids, targets, seed=self.recipe.seed * 1_000_003 + self.step)
        if not math.isfinite(loss):
            raise Diverged(f"the loss became {loss} at step {self.step + 1}: lower --learning-rate")
        self.optimizer.step()
        self.schedule.step()
        self._update_average()
        self.step += 1
        return loss

    @torch.no_grad()
    def _update_average(self) -> None:
        """An exponential mean that forgets faster at first: after n steps it looks back at most n / 9 + 1 of them."""
        weight = 1 - min(self.recipe.average_decay, (1 + self.step) / (10 + self.step)) if self.step else 1.0
        for mean, tensor in zip(self._means, self._tensors, strict=True):
            if mean.is_floating_point():
                mean.lerp_(tensor, weight)
            else:
                mean.copy_(tensor)


def _groups(module: TextClassifier, recipe: Recipe) -> list[dict[str, object]]:
    """Matrices decay; biases and BatchNorm's scales, which are vectors, don't: pulling them to 0 shrinks features."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    apart = [module.embedding.weight] if recipe.embedding_rate != 1 and "embedding" not in recipe.freeze else []
    matrices = [one for one in parameters if one.ndim > 1 and not (apart and one is apart[0])]
    groups: list[dict[str, object]] = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim == 1], "weight_decay": 0.0},
    ]
    if apart:
        rate = recipe.learning_rate * recipe.embedding_rate
        groups.append({"params": apart, "weight_decay": recipe.weight_decay, "lr": rate})
    return groups


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
