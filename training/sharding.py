"""Sharding: the gradient of a batch in parts of micro_batch_size texts, whose gradients add up.

Token dropout, padding and the dropout of the features are drawn for the whole batch before it is split, and each part's
loss is divided by the whole batch's divisor. What is left is BatchNorm, which sees the parts one by one:

    fast    each part is normalised by its own statistics: not the update of the whole batch, but in its time
    exact   by mean and variance of the whole batch, with the gradient that flows through them: the same update
            (training/exact.py)
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nlp_app.model import TextClassifier, max_over_time
from training.losses import Loss

MODES = ("exact", "fast")


def backward_whole(module: Callable[[Tensor], Tensor], loss: Loss, input_ids: Tensor, targets: Tensor) -> float:
    """Add the gradient of a batch's loss to the parameters.

    Args:
        module: a TextClassifier in training mode, compiled or not.
        loss: what is minimised.
        input_ids: (B, T) int64, on the module's device.
        targets: (B,) int64.

    Returns:
        The batch's loss.
    """
    value = loss(module(input_ids), targets)
    value.backward()  # type: ignore[no-untyped-call]
    return value.item()


def split(texts: int, micro_batch_size: int, *, at_least: int = 1) -> list[slice]:
    """As few parts as there must be, of sizes that differ by one at most.

    Args:
        texts: in the batch.
        micro_batch_size: texts in a part, at most.
        at_least: texts in a part, even where that is more than micro_batch_size.
    """
    count = max(1, min(-(-texts // micro_batch_size), texts // at_least))
    ends = [texts * number // count for number in range(count + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


class Parts:
    """A batch that is split, and what is common to its parts; made anew for each batch."""

    def __init__(
        self, *, module: TextClassifier, loss: Loss, input_ids: Tensor, targets: Tensor, slices: Sequence[slice]
    ) -> None:
        self.module = module
        self.slices = slices
        self._loss = loss
        self._input_ids = input_ids
        self._targets = targets
        self.divisor = loss.divisor(targets)
        # What nn.Dropout multiplies the features by, drawn as for the whole batch.
        weight = module.output.weight
        self.kept = module.dropout(torch.ones(len(input_ids), weight.shape[1]).to(weight))

    def embedded(self, part: slice) -> tuple[Tensor, Tensor]:
        """What the first block is given: x (b, E, T), at which the gradient ends, and mask (b, T)."""
        with torch.no_grad():
            x, mask = self.module.embed(self._input_ids[part])
        return x.requires_grad_(self.module.embedding.weight.requires_grad), mask

    def into_embedding(self, gradient: Tensor | None, part: slice) -> None:
        """Add the gradient of embedded's x to the embedding's, in place.

        Autograd would make a second gradient of the embedding's size for every part.
        """
        if gradient is None:
            return
        weight, ids = self.module.embedding.weight, self._input_ids[part]
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        real = ids != self.module.embedding.padding_idx
        weight.grad.index_add_(0, ids[real], gradient.transpose(1, 2)[real])

    def loss(self, x: Tensor, mask: Tensor, part: slice) -> Tensor:
        """A part's share of the batch's loss: a scalar.

        Args:
            x: (b, K*F, T) of the last block.
            mask: (b, T).
            part: the texts.
        """
        logits = self.module.output(max_over_time(x, mask) * self.kept[part])
        return self._loss.total(self.module.ending(logits), self._targets[part]) / self.divisor


def backward_fast(parts: Parts) -> float:
    """As backward_whole, but BatchNorm sees each part alone."""
    return sum(_backward_part(parts, part) for part in parts.slices)


def _backward_part(parts: Parts, part: slice) -> float:
    x, mask = parts.embedded(part)
    value = parts.loss(parts.module.blocks(x, mask), mask, part)
    value.backward()  # type: ignore[no-untyped-call]
    parts.into_embedding(x.grad, part)
    return value.item()
