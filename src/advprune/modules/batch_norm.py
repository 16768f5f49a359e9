"""Choose what BatchNorm sees when the images of a batch lie on several ranks.

``synchronised``: normalises by the mean and variance of the whole batch, so training is that of one
process, to rounding. ``local``: each rank by its own images, and running statistics are averaged
when the network is measured or kept: equal to one process in the mean only, and noisier the smaller
a rank's part. ``rank0``: by its own images too, but the running statistics, which attacks see, are
rank 0's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from advprune.distributed import collectives

Norm = nn.BatchNorm1d | nn.BatchNorm2d


class _Sum(torch.autograd.Function):
    """Sum over the ranks; the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        return collectives.all_reduce_sum(value)

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        return collectives.all_reduce_sum(grads[0].contiguous())


class _Synchronised:
    """Make the BatchNorm that this is mixed into use all ranks' batch statistics in training."""

    process_group = (
        None  # with the next line, all that nn.SyncBatchNorm.forward asks of a BatchNorm
    )
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, …) over the images of all ranks."""
        norm = cast(Any, self)
        if not norm.training or collectives.size() == 1:
            return nn.modules.batchnorm._BatchNorm.forward(norm, x)
        if x.is_cuda:
            return nn.SyncBatchNorm.forward(norm, x)  # fused kernels; torch has none for processors
        # autocast's; sums of a batch are fp32's, as they are in torch's own kernels
        if x.dtype == torch.bfloat16:
            return _normalised(norm, x.float()).to(x.dtype)
        return _normalised(norm, x)


class Synchronised1d(_Synchronised, nn.BatchNorm1d):
    """Normalise as ``nn.BatchNorm1d`` over all ranks."""


class Synchronised2d(_Synchronised, nn.BatchNorm2d):
    """Normalise as ``nn.BatchNorm2d`` over all ranks."""


def _normalised(norm: Norm, x: Tensor) -> Tensor:
    """Compute train-mode BatchNorm over the images of all ranks, running statistics included."""
    var, mean = torch.var_mean(x, [0, *range(2, x.dim())], unbiased=False)
    table = x.new_zeros(collectives.size(), 2 * len(mean) + 1)
    table[collectives.rank()] = torch.cat([mean, var, x.new_full((1,), x.numel() // len(mean))])
    means, variances, counts = _Sum.apply(table).split([len(mean), len(mean), 1], dim=1)
    share = counts / counts.sum()
    mean = (share * means).sum(0)
    var = (share * (variances + (means - mean) ** 2)).sum(0)
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        images = counts.sum().detach()
        with torch.no_grad():
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
            rate = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.detach(), rate)
            norm.running_var.lerp_(var.detach() * images / (images - 1).clamp_min(1), rate)
    scale = torch.rsqrt(var + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    channel = (1, -1, *[1] * (x.dim() - 2))
    y = (x - mean.view(channel)) * scale.view(channel)
    return y + norm.bias.view(channel) if norm.affine else y


@contextmanager
def synchronised(net: nn.Module) -> Iterator[None]:
    """Inside, let every BatchNorm of ``net`` normalise over all ranks; parameters keep their names.

    The class is exchanged and not the module, so that whoever holds the module, or asks what it is,
    is not misled.
    """
    of_all = {nn.BatchNorm1d: Synchronised1d, nn.BatchNorm2d: Synchronised2d}
    changed = [(module, type(module)) for module in net.modules() if type(module) in of_all]
    try:
        for module, kind in changed:
            module.__class__ = of_all[cast(Any, kind)]
        yield
    finally:
        for module, kind in changed:
            module.__class__ = kind


@torch.no_grad()
def agree(net: nn.Module, mode: str) -> None:
    """Make the running statistics of all ranks the same: averaged, or rank 0's.

    Args:
        net: the network.
        mode: ``synchronised`` (nothing to do), ``local`` (average) or ``rank0``.
    """
    if mode == "synchronised":
        return
    norms = [
        m
        for m in net.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None
    ]
    for norm in norms:
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            part = (
                statistic
                if mode == "local" or collectives.is_rank_zero()
                else torch.zeros_like(statistic)
            )
            statistic.copy_(
                collectives.all_reduce_sum(part) / (collectives.size() if mode == "local" else 1)
            )
