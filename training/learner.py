"""Learner: a module in training, and everything that its next step depends on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LinearLR
from torch.optim.swa_utils import AveragedModel

from nlp_app.model import TextClassifier
from nlp_app.tokenizer import PAD_ID, UNK_ID
from training.batches import Dataset, epoch_batches

WARM_UP_STEPS = 50
Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a module is trained; the same recipe and data give the same weights on one machine."""

    epochs: int
    """At most."""
    patience: int
    """Training stops when this many epochs brought no lower validation loss."""
    batch_size: int
    learning_rate: float
    weight_decay: float
    token_dropout: float
    """Share of the tokens that become UNK in training: no word is relied on, and UNK gets a meaning."""
    average_decay: float
    """Of the running mean of the weights, which is what is evaluated and kept."""
    seed: int


class Learner:
    """A module, the running mean of its weights, AdamW, a rate that warms up, and the number of steps taken.

    Chance enters by (seed, step) and (seed, epoch) alone, never by what was drawn before: so a run that goes on from
    saved tensors takes the very steps that the unbroken one takes.
    """

    def __init__(self, *, module: TextClassifier, recipe: Recipe, device: torch.device) -> None:
        self.recipe = recipe
        self.device = device
        self.step = 0
        self.module = module.to(device)
        self.average = AveragedModel(self.module, multi_avg_fn=_warm_mean(recipe.average_decay), use_buffers=True)
        self.optimizer = torch.optim.AdamW(_groups(module, recipe.weight_decay), lr=recipe.learning_rate, fused=True)
        # The mean of the weights does what a falling rate is for, and lets training stop at any time.
        self.schedule = LinearLR(self.optimizer, start_factor=0.1, total_iters=WARM_UP_STEPS)

    def run_epoch(self, data: Dataset, *, epoch: int, on_step: Callable[[int, int, float], None]) -> float:
        """Train on every text once.

        Args:
            data: the training set.
            epoch: counted from 1.
            on_step: called after each step with its number in the epoch, the epoch's steps, and the mean loss so far.

        Returns:
            The mean loss of the epoch.
        """
        self.module.train()
        lengths = [len(text.input_ids) for text in data.encoded]
        batches = epoch_batches(lengths, batch_size=self.recipe.batch_size, seed=self.recipe.seed, epoch=epoch)
        total = 0.0
        for number, rows in enumerate(batches, start=1):
            total += self._take_step(*data.batch(rows))
            on_step(number, len(batches), total / number)
        return total / len(batches)

    @property
    def averaged(self) -> TextClassifier:
        """The module with the mean weights, in eval mode."""
        averaged = self.average.module.eval()
        assert isinstance(averaged, TextClassifier)
        return averaged

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

    def _take_step(self, input_ids: Tensor, targets: Tensor) -> float:
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        logits = self.module(drop_tokens(input_ids, self.recipe.token_dropout).to(self.device))
        loss = F.cross_entropy(logits, targets.to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.module)
        self.step += 1
        return loss.item()


def drop_tokens(input_ids: Tensor, share: float) -> Tensor:
    """Replace a share of the real tokens, drawn from torch's generator, by UNK_ID: (B, T) -> (B, T)."""
    dropped = (torch.rand(input_ids.shape) < share) & (input_ids != PAD_ID)
    return input_ids.masked_fill(dropped, UNK_ID)


def _groups(module: TextClassifier, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases and BatchNorm's scales, which are vectors, don't: pulling them to 0 shrinks features."""
    parameters = list(module.parameters())
    return [
        {"params": [parameter for parameter in parameters if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim == 1], "weight_decay": 0.0},
    ]


def _warm_mean(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """An exponential mean that forgets faster at first: after n steps it looks back at most n / 9 + 1 of them."""

    @torch.no_grad()
    def update(averages: Tensors, current: Tensors, taken: Tensor | int) -> None:
        steps = int(taken)
        weight = 1 - min(decay, (1 + steps) / (10 + steps))
        for average, tensor in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(tensor, weight)
            else:
                average.copy_(tensor)

    return update


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
