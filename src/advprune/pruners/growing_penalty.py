"""Learned shares of layers, and a penalty that grows until they are within the budget: HARP's.

Zhao and Wressnegger 2023, https://arxiv.org/abs/2412.14714; ``harp.py`` and ``harp_channels.py``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advprune.pruners.process import Moment, Process


class _WithRate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, score: Tensor, mask: Tensor, rate: Tensor) -> Tensor:
        ctx.save_for_backward(weight, score)
        return weight * mask.to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, Tensor]:
        weight, score = ctx.saved_tensors
        slope = grads[0] * weight
        if score.shape != weight.shape:  # one score a channel
            slope = by_channel(slope, len(score))
        return None, slope * score.sign(), None, slope.sum()


def with_rate(weight: Tensor, score: Tensor, mask: Tensor, rate: Tensor) -> Tensor:
    """Return w * mask, with the gradient of w * |s| for scores, and of w * k for the layer's rate.

    Args:
        weight: any shape; it gets no gradient.
        score: of the weight's shape, or one a channel that it reads, (F,).
        mask: bool, of the weight's shape, or of one filter's.
        rate: the share k that the layer keeps, a scalar; dL/dk is the sum of weight * gradient.
    """
    return _WithRate.apply(weight, score, mask, rate)


def by_channel(values: Tensor, channels: int) -> Tensor:
    """Return the sums of what belongs to each channel that a weight (O, I, …) reads, (channels,).

    Behind a flatten a channel has several inputs in a row.
    """
    return values.transpose(0, 1).reshape(channels, -1).sum(1)


class GrowingPenalty(Process):
    """Keep a rate a layer; a process that learns them says what they cost beyond the budget.

    Attributes:
        gamma: weight of the penalty.
        least: share that each layer keeps at least.
        rates: one a layer, unbounded.
        growth: factor of the penalty by now.
        met: whether an epoch has ended within the budget.
    """

    gamma: float
    least: float
    rates: nn.Parameter
    growth: Tensor
    met: Tensor

    def keep_rates(self) -> Tensor:
        """Return the share that each layer keeps, (layers,), with a graph."""
        return self.least + (1 - self.least) * torch.sigmoid(self.rates)

    def over_budget(self) -> Tensor:
        """Return by which share the rates cost more than was asked for, or 0; with a graph."""
        raise NotImplementedError

    def penalty(self, now: Moment) -> Tensor | None:
        """Return the weighted excess."""
        return self.gamma * self.growth * self.over_budget() if self.gamma else None

    def after_epoch(self, now: Moment, measured: Mapping[str, float]) -> None:
        """Let the penalty grow, until an epoch ends within the budget to four places."""
        self.met |= torch.round(self.over_budget(), decimals=4) == 0
        self.growth += (~self.met).to(self.growth.dtype)
