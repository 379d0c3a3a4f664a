"""What other sizes of the layers would cost: measured on the machine at hand, with the user's own batch.

Arithmetic units work on so many numbers at a time, and what a size leaves over is wasted. How much that is on one CPU,
and how much of it is noise, is in docs/notes-measured.md; why multiples of 16 are the measure, in docs/decisions.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from nlp_app.config import ModelConfig
from nlp_app.model import TextClassifier
from training.losses import Loss
from training.measure import Work, median_seconds
from training.sharding import backward_whole

STEP = 16
NOISE = 0.03
"""Share by which two measurements of the same work may differ."""
NAMES = ("embedding_dim", "num_filters")
Timer = Callable[[Sequence[Work], torch.device], list[float]]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A size beside the multiples of STEP next to it."""

    name: str
    size: int
    smaller: int
    larger: int
    smaller_time: float
    """Of a step, as a share of the time with the size itself."""
    larger_time: float
    device: str

    @property
    def costs_speed(self) -> bool:
        """Whether a larger size takes no more time: then the size wastes some."""
        return self.larger != self.size and self.larger_time <= 1 + NOISE

    def __str__(self) -> str:
        flag = f"--{self.name.replace('_', '-')} {self.size}"
        if self.larger == self.size:
            return f"{flag} is a multiple of {STEP}: no size beside it is faster for what it gives"
        times = f"{self.larger} takes {self.larger_time:.2f} of its time on {self.device}"
        if self.smaller:
            times += f", {self.smaller} takes {self.smaller_time:.2f}"
        return f"{flag} {'costs speed' if self.costs_speed else 'costs no speed'}: {times}"


def explain(
    config: ModelConfig, *, batch_size: int, tokens: int, device: torch.device, timer: Timer = median_seconds
) -> list[Advice]:
    """Time a step with each size that is no multiple of STEP and with the multiples next to it.

    Args:
        config: the model asked for.
        batch_size: texts that go through the model at once.
        tokens: T of the batch.
        device: where training runs.
        timer: gives the seconds of each piece of work.
    """
    advice = []
    for name in NAMES:
        size: int = getattr(config, name)
        smaller, larger = size // STEP * STEP, -(-size // STEP) * STEP
        times = [1.0, 1.0, 1.0]
        if smaller != larger:
            sizes = (smaller or larger, size, larger)
            configs = [with_size(config, name, value) for value in sizes]
            works = [step(one, batch_size, tokens, device) for one in configs]
            times = timer(works, device)
        advice.append(
            Advice(
                name=name, size=size, smaller=smaller, larger=larger, device=device.type,
                smaller_time=times[0] / times[1], larger_time=times[2] / times[1],
            )
        )  # fmt: skip
    return advice


def step(
    config: ModelConfig, batch_size: int, tokens: int, device: torch.device, precision: torch.dtype = torch.float32
) -> Work:
    """Forward and backward of one batch without padding.

    Args:
        config: of the module.
        batch_size: B.
        tokens: T.
        device: where.
        precision: bfloat16 for autocast.
    """
    module = TextClassifier(config=replace(config, vocab_size=64)).to(device).train()
    input_ids = torch.arange(batch_size * tokens, device=device).reshape(batch_size, tokens) % 62 + 2
    targets = torch.arange(batch_size, device=device) % config.num_classes

    def work() -> None:
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            backward_whole(module, Loss(), input_ids, targets)
        module.zero_grad(set_to_none=True)

    return work


def with_size(config: ModelConfig, name: str, value: int) -> ModelConfig:
    """The config with another size."""
    change: dict[str, Any] = {name: value}
    return replace(config, **change)
