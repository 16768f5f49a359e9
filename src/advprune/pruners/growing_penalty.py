"""Learned shares of layers, and a penalty that grows until they are within the budget: HARP's.

Zhao and Wressnegger 2023, https://arxiv.org/abs/2412.14714; ``harp.py`` and ``harp_filters.py``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from advprune.pruners.process import Moment, Process


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
