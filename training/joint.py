"""A step that several processes take together: each has its texts of the batch, all have the whole batch's gradient.

Every process holds the whole batch's ids and draws what is dropped for all of it, as one process would, before it takes
each size-th text. So it knows the divisor of the loss, and which rows of the embedding have a gradient, without asking.

DistributedDataParallel adds up what the blocks and the output layer get. The embedding's gradient is added up row by
row: a batch of 64 texts of 16 tokens touches at most 1,024 of 30,000 rows, 0.5 MB in place of 15.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nlp_app.model import ConvBlock, TextClassifier, max_over_time
from training.learner import Learner
from training.ranks import Command, Ranks
from training.recipe import Recipe
from training.sharding import Parts
from training.step import drop_tokens, seed_generator, uses_bf16
from training.synced import SyncedNorm


class Told(Exception):
    """Rank 0 has something else to do than the next step."""

    def __init__(self, command: Command) -> None:
        super().__init__(command.name)
        self.command = command


def join(learner: Learner, ranks: Ranks) -> None:
    """Let a learner take its steps together with the other processes', from where rank 0's is; alone it stays as it is.

    All processes call it at once, for learners of the same texts.
    """
    if not ranks.several:
        return
    share(learner, ranks)
    for block in learner.module.blocks:
        assert isinstance(block, ConvBlock)
        norm = block.norm[0]
        assert isinstance(norm, nn.BatchNorm1d)
        block.norm[0] = SyncedNorm(norm)
    step = JointStep(module=learner.module, recipe=learner.recipe, device=learner.device, ranks=ranks)
    if ranks.first:
        learner.evaluated_too = lambda loss: ranks.tell(Command.EVALUATED, loss)
    else:
        step.evaluated = learner.evaluated
    learner.gradient_step = step


def share(learner: Learner, ranks: Ranks) -> None:
    """Give the state of rank 0's learner to the others: what it read from a disk, which they may not have."""
    tensors = learner.tensors()
    told: list[Any] = [({name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}, learner.values())]
    dist.broadcast_object_list(told)
    shapes, values = told[0]
    if not ranks.first:
        tensors = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in shapes.items()}
    tensors = {name: tensor.to(learner.device) for name, tensor in tensors.items()}
    for tensor in tensors.values():
        dist.broadcast(tensor, 0)
    if not ranks.first:
        learner.restore(tensors, values)


class JointStep:
    """As GradientStep, for the own texts of each batch."""

    def __init__(self, *, module: TextClassifier, recipe: Recipe, device: torch.device, ranks: Ranks) -> None:
        self._module, self._recipe, self._ranks = module, recipe, ranks
        self._own = slice(ranks.rank, None, ranks.size)
        self._parameters = list(module.parameters())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 has a new name for it, which 2.10 does not know
            self._trunk = DistributedDataParallel(_Trunk(module), broadcast_buffers=False, gradient_as_bucket_view=True)
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(recipe.precision, device))
        self._embedding = _EmbeddingGradient(module.embedding)
        self.evaluated: Callable[[float], None] = lambda _: None
        """Of another rank than 0: what is done when rank 0 has evaluated, given the validation loss."""

    def __call__(self, input_ids: Tensor, targets: Tensor, *, seed: int) -> float:
        """The batch's loss; the gradients that were there before are gone.

        Args:
            input_ids: (B, T) int64, padded, of the whole batch.
            targets: (B,) int64.
            seed: of what is drawn: token dropout, then dropout.

        Raises:
            Told: there is no such step.
        """
        self._wait_for_leave()
        self._ranks.busy = True
        for parameter in self._parameters:
            parameter.grad = None
        seed_generator(seed, input_ids.device)
        input_ids = drop_tokens(input_ids, self._recipe.token_dropout)
        with self._autocast:
            loss = self._backward(input_ids, targets)
        self._ranks.busy = False
        return loss

    def _wait_for_leave(self) -> None:
        if self._ranks.first:
            self._ranks.tell(Command.STEP)
            return
        command, value = self._ranks.hear()
        while command == Command.EVALUATED:
            self.evaluated(value)
            command, value = self._ranks.hear()
        if command != Command.STEP:
            raise Told(command)

    def _backward(self, input_ids: Tensor, targets: Tensor) -> float:
        own, size = self._own, self._ranks.size
        parts = Parts(module=self._module, loss=self._recipe.loss, input_ids=input_ids, targets=targets, slices=[own])
        x, mask = parts.embedded(own)
        output = self._trunk(x, mask, parts.kept[own])
        value = self._recipe.loss.total(output, targets[own]) / parts.divisor
        # DistributedDataParallel takes the mean over the processes.
        (value * size).backward()  # type: ignore[no-untyped-call]
        whole = value.detach()
        if x.grad is None:
            dist.all_reduce(whole)
            return whole.item()
        return self._embedding.add_up(input_ids, x.grad / size, own, whole)


class _Trunk(nn.Module):
    """The module from the first block on."""

    def __init__(self, module: TextClassifier) -> None:
        super().__init__()
        self.blocks, self.output = module.blocks, module.output
        self._ending = module.ending

    def forward(self, x: Tensor, mask: Tensor, kept: Tensor) -> Tensor:
        """(b, E, T), (b, T) and the dropout (b, K*F) -> (b, C) of the loss."""
        logits: Tensor = self.output(max_over_time(self.blocks(x, mask), mask) * kept)
        ended: Tensor = self._ending(logits)
        return ended


class _EmbeddingGradient:
    """The embedding's gradient, kept from step to step: a new one of 15 MB would take 4 ms, as clearing it would."""

    def __init__(self, embedding: nn.Embedding) -> None:
        self._embedding = embedding
        self._gradient: Tensor | None = None
        self._rows = torch.empty(0, dtype=torch.int64)

    def add_up(self, input_ids: Tensor, gradient: Tensor, own: slice, loss: Tensor) -> float:
        """Make the sum over all processes the embedding's gradient; the sum of the loss comes in the same message.

        Args:
            input_ids: (B, T) of the whole batch.
            gradient: (b, E, T) of the own texts.
            own: which they are.
            loss: a scalar, the own texts' share.
        """
        rows, place = torch.unique(input_ids, return_inverse=True)
        real = input_ids[own] != self._embedding.padding_idx
        sent = gradient.new_zeros(len(rows) + 1, gradient.shape[1])
        sent[-1, 0] = loss
        sent.index_add_(0, place[own][real], gradient.transpose(1, 2)[real])
        dist.all_reduce(sent)
        of_rows, whole = sent[:-1], sent[-1, 0].item()
        if self._gradient is None:
            self._gradient = torch.zeros_like(self._embedding.weight)
        else:
            self._gradient.index_fill_(0, self._rows, 0.0)
        self._embedding.weight.grad, self._rows = self._gradient.index_copy_(0, rows, of_rows), rows
        return whole
