"""TwinRep: train products of factors, prune once early, go on (Li et al. 2023, AAAI).

Written from a description of the authors' code. Differs from it: exact counts; pruning comes after
a tenth of the phase, which is their epoch 10 of 100; the factors start as roots of a network's own
initial weights (``init=kaiming`` for their small products); dead entries are zero in both factors,
with no momentum; filters that are removed leave nothing of their BatchNorm.
"""

from typing import Any

import torch
from torch import Tensor, nn

from advprune.pruners.factors import Init
from advprune.pruners.process import Moment
from advprune.pruners.reparametrised import Reparametrised
from advprune.pruners.task import Task
from advprune.ranges import ShareBelowOne


class TwinRep(Reparametrised):
    """Keep the largest composed weights when a share of the phase is done; they train on.

    Args:
        net: the network that the phase starts from, as a rule a new one.
        task: what is asked for, and how factors compose a weight.
        init: of the factors, see ``factors.py``.
        at: share of the phase after which masks are chosen, once.
    """

    prunes_filters = True
    pruned: Tensor

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        *,
        init: Init = "keep",
        at: ShareBelowOne = 0.1,
    ) -> None:
        super().__init__(net, task, init=init)
        self.at, self._due = at, False
        self.register_buffer("pruned", torch.zeros((), dtype=torch.bool))

    def before_step(self, now: Moment) -> None:
        """Prune once, when it is time."""
        if not self.pruned and now.progress >= self.at:
            self._prune()
            self._due = True

    def after_step(self, now: Moment, optimizer: torch.optim.Optimizer) -> None:
        """Forget the momentum of what the step's pruning removed."""
        if self._due:
            self.zero_dead(optimizer)
            self._due = False

    def finish(self, net: nn.Module) -> None:
        """Prune, if the phase was too short to have come to it."""
        if not self.pruned:
            self._prune()

    def on_target(self) -> bool:
        """Return whether it has pruned: the scope keeps as many as it was asked for."""
        return bool(self.pruned)

    def result(self) -> dict[str, Any]:
        """Return the ratio, and how weights were composed."""
        return {"rounds": [self.task.ratio], "through": self.task.through}

    def _prune(self) -> None:
        self.keep_largest()
        self.zero_dead()
        self.pruned.fill_(True)
