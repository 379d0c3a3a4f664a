"""The very gradient of a whole batch from its parts: BatchNorm with the mean and variance of all of them.

The gradient flows through mean and variance too, without which that of the convolutions is badly wrong. A block is gone
through three times, part by part: for the statistics; for two sums over the whole batch, which the gradient through the
statistics needs; and for the gradient itself. What lies between two blocks is kept for the whole batch, and nothing of
what is inside one.

With g the gradient of BatchNorm's output, y' its normalised input, n its rows (Ioffe and Szegedy 2015, section 3):

    gradient of the input = weight / std * (g - sum(g) / n - y' * sum(g * y') / n)

The first term is what BatchNorm by fixed statistics gives; sum(g) and sum(g * y') are the gradients of bias and weight.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlp_app.model import ConvBlock
from training.sharding import Parts


class Statistics:
    """Mean and variance of a BatchNorm's input over all parts, and the sums that the gradient needs; per channel."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.variance = torch.zeros(())
        self.sum_g = self.sum_gy = torch.zeros(())

    @torch.no_grad()
    def add(self, rows: Tensor) -> None:
        """Take in a part, (n, channels); by Chan, Golub and LeVeque 1979, which subtracts no squares of large sums."""
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        variance, mean = torch.var_mean(rows, dim=0, correction=0)
        self.merge(len(rows), mean, variance)

    def merge(self, count: int, mean: Tensor, variance: Tensor) -> None:
        """Take in a part of so many rows, at least one, by its statistics."""
        share = count / (self.count + count)
        distance = mean - self.mean
        self.variance = self.variance + (variance - self.variance) * share + distance**2 * (share * (1 - share))
        self.mean = self.mean + distance * share
        self.count += count

    def add_sums(self, of_bias: Tensor, of_weight: Tensor) -> None:
        """Take in a part's gradient of BatchNorm's bias and weight."""
        self.sum_g, self.sum_gy = self.sum_g + of_bias, self.sum_gy + of_weight

    def way_through(self, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """What reaches BatchNorm's input through mean and variance, as slope and offset of the input's rows."""
        inverse_std = torch.rsqrt(self.variance + eps)
        scale = -weight * inverse_std / self.count
        slope = scale * inverse_std * self.sum_gy
        return slope, scale * self.sum_g - slope * self.mean

    @torch.no_grad()
    def move(self, norm: nn.BatchNorm1d) -> None:
        """Move the running statistics as one pass over the whole batch would have."""
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        assert norm.momentum is not None
        unbiased = self.variance * (self.count / (self.count - 1))
        norm.running_mean.lerp_(self.mean.to(norm.running_mean), norm.momentum)
        norm.running_var.lerp_(unbiased.to(norm.running_var), norm.momentum)
        norm.num_batches_tracked += 1


class _WayThrough(torch.autograd.Function):
    """Rows (n, channels) as they are; adds to their gradient what flows through the statistics."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, statistics: Statistics, norm: nn.BatchNorm1d) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.statistics, ctx.norm = statistics, norm
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (rows,), of, norm = ctx.saved_tensors, ctx.statistics, ctx.norm
        slope, offset = of.way_through(norm.weight, norm.eps)
        return torch.addcmul(gradient, rows, slope.to(rows)).add_(offset.to(rows)), None, None


class GivenNorm(nn.Module):
    """BatchNorm by given statistics, with the weight and bias of a BatchNorm1d."""

    def __init__(self, norm: nn.BatchNorm1d, statistics: Statistics) -> None:
        super().__init__()
        self.norm, self.statistics = norm, statistics

    def forward(self, rows: Tensor) -> Tensor:
        """(n, channels) -> (n, channels)."""
        norm, of = self.norm, self.statistics
        through: Tensor = _WayThrough.apply(rows, of, norm)  # type: ignore[no-untyped-call]
        return F.batch_norm(through, of.mean, of.variance, norm.weight, norm.bias, training=False, eps=norm.eps)


@contextmanager
def given(block: ConvBlock, statistics: Statistics) -> Iterator[None]:
    """Let a block normalise by these statistics, and its gradient flow through them too."""
    norm = _norm(block)
    block.norm[0] = GivenNorm(norm, statistics)
    try:
        yield
    finally:
        block.norm[0] = norm


@dataclass
class _Stage:
    """A block on the way through it and back."""

    parts: Parts
    block: ConvBlock
    inputs: list[Tensor] | None
    """What it is given, by part; None for the embedded texts."""
    upstream: list[Tensor] | None = None
    """The gradient of its output, by part; None for the last block, whose output the loss is taken of."""
    statistics: Statistics = field(default_factory=Statistics)

    @torch.no_grad()
    def take_statistics(self) -> None:
        """The first time through."""
        for number in self._numbers:
            x, mask = self._entry(number)
            self.statistics.add(self.block.convolve(x).transpose(1, 2)[mask])

    @torch.no_grad()
    def outputs(self) -> list[Tensor]:
        """By part."""
        with given(self.block, self.statistics):
            return [self.block(*self._entry(number)) for number in self._numbers]

    def backward(self) -> tuple[float, list[Tensor] | None]:
        """Add the gradient of the block's parameters, and of the output layer's after the last block.

        Returns:
            The batch's loss from the last block, else 0; and the gradient of inputs, by part, in their place.
        """
        with given(self.block, self.statistics):
            total = sum(self._add_sums(number) for number in self._numbers)
            for number in self._numbers:
                self._add_gradient(number)
        return total, self.inputs

    @property
    def _numbers(self) -> range:
        return range(len(self.parts.slices))

    def _entry(self, number: int) -> tuple[Tensor, Tensor]:
        """What the block is given of a part, a tensor at which the gradient ends, and the mask."""
        x, mask = self.parts.embedded(self.parts.slices[number])
        return (x, mask) if self.inputs is None else (self.inputs[number].detach().requires_grad_(), mask)

    def _outcome(self, number: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """The input, and what the gradient starts from: the output and its gradient, or the part's loss."""
        x, mask = self._entry(number)
        y = self.block(x, mask)
        if self.upstream is None:
            return x, self.parts.loss(y, mask, self.parts.slices[number]), None
        return x, y, self.upstream[number]

    def _add_sums(self, number: int) -> float:
        _, outcome, slope = self._outcome(number)
        norm = self.block.norm[0]
        assert isinstance(norm, GivenNorm)
        self.statistics.add_sums(*torch.autograd.grad(outcome, [norm.norm.bias, norm.norm.weight], slope))
        return outcome.item() if self.upstream is None else 0.0

    def _add_gradient(self, number: int) -> None:
        x, outcome, slope = self._outcome(number)
        outcome.backward(slope)  # type: ignore[no-untyped-call]
        del outcome, slope  # and what their graph still holds
        if self.inputs is None:
            self.parts.into_embedding(x.grad, self.parts.slices[number])
        else:
            assert x.grad is not None
            self.inputs[number] = x.grad


def backward_exact(parts: Parts) -> float:
    """As training.sharding.backward_whole, with the memory of one part inside the blocks."""
    stages: list[_Stage] = []
    inputs: list[Tensor] | None = None
    for block in parts.module.blocks:
        assert isinstance(block, ConvBlock)
        if stages:
            inputs = stages[-1].outputs()
        stages.append(_Stage(parts, block, inputs))
        stages[-1].take_statistics()
    total, upstream = 0.0, None
    norms = [(_norm(stage.block), stage.statistics) for stage in stages]
    while stages:
        stage = stages.pop()  # and with it what it was given
        stage.upstream = upstream
        value, upstream = stage.backward()
        total += value
    for norm, statistics in norms:
        statistics.move(norm)
    return total


def _norm(block: ConvBlock) -> nn.BatchNorm1d:
    norm = block.norm[0]
    assert isinstance(norm, nn.BatchNorm1d)
    return norm
