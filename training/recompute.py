"""Gradient checkpointing: keep what goes into a segment of blocks, compute the inside again in the backward pass.

BatchNorm stands inside the segments, for outside them it would keep nearly as much as a plain run. Computing it again
must not move its running statistics a second time (pytorch#96136), so they are frozen meanwhile.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nlp_app.model import ConvStack, TextClassifier

MODES = ("none", "blocks", "auto")


class RecomputedStack(ConvStack):
    """A ConvStack, same blocks and same names in the state_dict, that keeps only what goes into each segment."""

    def __init__(self, *blocks: nn.Module, segment: int = 1) -> None:
        super().__init__(*blocks)
        self._segment = segment

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """(B, E, T), (B, T) -> (B, K*F, T)."""
        if not torch.is_grad_enabled():
            return super().forward(x, mask)
        blocks = list(self)
        for start in range(0, len(blocks), self._segment):
            part = ConvStack(*blocks[start : start + self._segment])
            # Without use_reentrant=False a segment whose input needs no gradient gets none at all.
            x = checkpoint(
                part, x, mask, use_reentrant=False, preserve_rng_state=True, context_fn=partial(_contexts, part)
            )
        return x


def recompute_blocks(module: TextClassifier, *, segment: int | None = None) -> None:
    """Turn gradient checkpointing on, in place.

    Args:
        module: whose parameters, buffers and their names stay what they are.
        segment: blocks between two kept tensors. By default so that n / segment kept inputs and the inside of one
            segment, about 3 tensors a block, are least together: the root of n / 3.
    """
    segment = segment or max(1, round(math.sqrt(len(module.blocks) / 3)))
    module.blocks = RecomputedStack(*module.blocks, segment=segment)


def recomputes(module: TextClassifier) -> bool:
    """Whether gradient checkpointing is on."""
    return isinstance(module.blocks, RecomputedStack)


def _contexts(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Of the forward pass, and of the second one."""
    return nullcontext(), frozen_statistics(part)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """BatchNorm normalises by its batch as ever, but moves copies of its running mean, variance and count."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm1d)]
    buffers = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
