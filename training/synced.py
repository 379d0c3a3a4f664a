"""BatchNorm over a batch that lies in several processes: the mean and variance of all of it, and the gradient of both.

torch's SyncBatchNorm does so on GPUs alone. With g the gradient of the output, y' the normalised input, n the rows of
all processes (Ioffe and Szegedy 2015, section 3), as in training/exact.py:

    gradient of the input = weight / std * (g - sum(g) / n - y' * sum(g * y') / n)
"""

from typing import Any

import torch
import torch.distributed as dist
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
        normal: Tensor = _Normal.apply(rows, self.weight, self.bias, of, self.eps)  # type: ignore[no-untyped-call]
        return normal


@torch.no_grad()
def statistics_of_all(rows: Tensor) -> Statistics:
    """Of (n, channels) in each process, merged in the order of the processes, so that all have the same bits."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    sent = rows.new_zeros((3, rows.shape[1]), dtype=wide)
    if len(rows):  # torch.var_mean over rows takes three times as long
        sent[0], sent[1] = len(rows), rows.mean(dim=0, dtype=wide)
        sent[2] = (rows - sent[1]).square_().mean(dim=0)
    received = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
    dist.all_gather(received, sent)
    whole = Statistics()
    for counts, mean, variance in received:
        if count := int(counts[0]):
            whole.merge(count, mean, variance)
    return whole


class _Normal(torch.autograd.Function):
    """Rows (n, channels) normalised by the statistics of all processes, times weight, plus bias."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, of: Statistics, eps: float) -> Tensor:
        inverse_std = torch.rsqrt(of.variance + eps)
        normal = (rows - of.mean).mul_(inverse_std)
        ctx.save_for_backward(normal, weight, inverse_std)
        ctx.count = of.count
        return torch.addcmul(bias, normal, weight).to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        normal, weight, inverse_std = ctx.saved_tensors
        wide = gradient.to(normal.dtype)
        own = torch.stack([wide.sum(dim=0), (wide * normal).sum(dim=0)])
        of_all = own.clone()
        dist.all_reduce(of_all)
        mean_g, mean_gy = of_all / ctx.count
        of_rows = (wide - mean_g).addcmul_(normal, mean_gy, value=-1).mul_(weight * inverse_std)
        return of_rows.to(gradient.dtype), own[1], own[0], None, None
