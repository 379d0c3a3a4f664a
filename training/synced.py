"""BatchNorm over a batch that lies in several processes: the mean and variance of all of it, and the gradient of both.

torch's SyncBatchNorm does so on GPUs alone. With g the gradient of the output, y' the normalised input, n the rows of
all processes (Ioffe and Szegedy 2015, section 3), as in training/exact.py:

    gradient of the input = weight / std * (g - sum(g) / n - y' * sum(g * y') / n)
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
        normal: Tensor = _Normal.apply(rows, self.weight, self.bias, of, self.eps)  # type: ignore[no-untyped-call]
        return normal


@torch.no_grad()
def statistics_of_all(rows: Tensor) -> Statistics:
    """Of (n, channels) in each process, merged in the order of the processes, so that all have the same bits."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    sent = rows.new_zeros((3, rows.shape[1]), dtype=wide)
    if len(rows):  # torch.var_mean over rows takes ten times as long
        sent[0] = len(rows)
        sent[1], sent[2] = torch.batch_norm_update_stats(rows, None, None, 0.0)
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
        ctx.save_for_backward(rows, weight)
        ctx.of, ctx.eps = of, eps
        if not len(rows):  # which torch would divide by
            return rows.new_empty(rows.shape)
        return F.batch_norm(rows, of.mean, of.variance, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (rows, weight), of, eps = ctx.saved_tensors, ctx.of, ctx.eps
        if len(rows):
            by_given = torch.ops.aten.native_batch_norm_backward  # torch has no other name for it
            statistics = (of.mean, of.variance, None, None, False, eps)
            of_rows, of_weight, of_bias = by_given(gradient, rows, weight, *statistics, [True, True, True])
        else:
            of_rows, of_weight, of_bias = torch.empty_like(rows), torch.zeros_like(weight), torch.zeros_like(weight)
        of_all = torch.stack([of_bias, of_weight])
        dist.all_reduce(of_all)
        of.add_sums(*of_all)
        slope, offset = of.way_through(weight, eps)
        of_rows.addcmul_(rows, slope.to(rows)).add_(offset.to(rows))
        return of_rows, of_weight, of_bias, None, None
