"""Iterative hard thresholding, the pruning part of ATMC (Gui et al. 2019).

https://arxiv.org/abs/1902.03538. After every step the largest weights stay and the others become
zero; gradients are dense, so a weight comes back when one step makes it larger than the smallest
that stays.

What differs from the authors' code: weights alone, without their low-rank factors and quantisation;
any scope and objective instead of the total and a mean of clean and adversarial loss; the momentum
of a dead weight is zero.
"""

import torch
from torch import Tensor, nn

from advprune.pruners.process import Batches, Moment, Process


class Iht(Process):
    """Step with dense gradients, then project onto the networks of the ratio asked for."""

    def start(self, net: nn.Module, batches: Batches) -> None:
        """Keep the largest weights of the network that the phase starts from."""
        self._project()

    def effective(self, name: str, weight: Tensor) -> Tensor:
        """Return the weight itself, which has its zeros already: gradients reach all of it."""
        return weight

    def after_step(self, now: Moment, optimizer: torch.optim.Optimizer) -> None:
        """Keep the largest weights, as many as the scope says."""
        self._project(optimizer)

    def _project(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        self.keep_largest()
        self.zero_dead(optimizer)
