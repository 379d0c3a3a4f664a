"""BatchNorm over a batch that lies in several processes: the mean and variance of all of it, and the gradient of both.

torch's SyncBatchNorm does so on GPUs alone. With G the gradient of y' = (x - mean) / std times the weight, that is of
the input if mean and std were fixed, and n the rows of all processes (Ioffe and Szegedy 2015, section 3):

    gradient of the input = G - sum(G) / n - y' * sum(G * y') / n
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from training.exact import Statistics


class SyncedNorm(nn.BatchNorm1d):
    """A BatchNorm1d with another's parameters and buffers, whose batch is the rows of all processes."""

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        super().__init__(norm.num_features, eps=norm.eps, momentum=norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked

    def forward(self, rows: Tensor) -> Tensor:
        """(n, channels) -> (n, channels); n may differ between the processes, and be 0."""
        if not self.training:
            return super().forward(rows)
        of = statistics_of_all(rows)
        of.move(self)
        through: Tensor = _Synced.apply(rows, of, self.eps)  # type: ignore[no-untyped-call]
        return F.batch_norm(through, of.mean, of.variance, self.weight, self.bias, training=False, eps=self.eps)


def statistics_of_all(rows: Tensor) -> Statistics:
    """Of (n, channels) in each process, merged in the order of the processes, so that all have the same bits."""
    own, whole = Statistics(), Statistics()
    if len(rows):
        own.add(rows)
    sent = rows.new_zeros((3, rows.shape[1]), dtype=torch.promote_types(rows.dtype, torch.float32))
    sent[0], sent[1], sent[2] = own.count, own.mean, own.variance
    received = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
    dist.all_gather(received, sent)
    for counts, mean, variance in received:
        if count := int(counts[0]):
            whole.merge(count, mean, variance)
    return whole


class _Synced(torch.autograd.Function):
    """Rows (n, channels) as they are; adds to their gradient what flows through the statistics of all processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, statistics: Statistics, eps: float) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.statistics, ctx.eps = statistics, eps
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (rows,), of = ctx.saved_tensors, ctx.statistics
        inverse_std = torch.rsqrt(of.variance + ctx.eps)
        gradient, normalised = gradient.to(of.mean), (rows - of.mean) * inverse_std
        sums = torch.stack([gradient.sum(dim=0), (gradient * normalised).sum(dim=0)])
        dist.all_reduce(sums)
        mean_g, mean_gy = sums / of.count
        return (gradient - mean_g).addcmul_(normalised, mean_gy, value=-1).to(rows), None, None
