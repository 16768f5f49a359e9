"""Prune a little, fine-tune, prune more: iterative pruning by any criterion (Han et al. 2015).

https://arxiv.org/abs/1506.02626. Masks only shrink. Differs from the paper in that any criterion
and any schedule may decide; the last round comes after the phase, and recovery follows it.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from advprune.masks import Masks
from advprune.pruners.process import Moment
from advprune.pruners.reparametrised import Reparametrised
from advprune.pruners.task import Task, round_of

#: (network as it is, ratio, masks so far) -> masks within them
Decide: TypeAlias = Callable[[nn.Module, float, Masks], Masks]


def describe_rounds(ratios: list[float], kept: list[int], epochs: list[int]) -> dict[str, Any]:
    """Describe the rounds that were made, for the result.

    Args:
        ratios: decided, one a round.
        kept: weights left of those that may be removed.
        epochs: passes trained afterwards.
    """
    return {"rounds": ratios, "rounds_kept": kept, "rounds_epochs": epochs}


class Rounds(Reparametrised):
    """Decide masks at the start of each part of the phase, on the network as it is then.

    Args:
        net: the dense network.
        task: with two ratios or more; the parts of the phase are one fewer.
        decide: what stays at a ratio.
        passes: over the images in each part.
    """

    takes_rounds = True
    made: Tensor
    kept: Tensor

    def __init__(self, net: nn.Module, task: Task, *, decide: Decide, passes: int) -> None:
        super().__init__(net, task)
        self.decide, self.passes = decide, passes
        self._network = (net,)  # in a tuple: it is no part of the process
        self._removed = False
        self.register_buffer("made", torch.zeros((), dtype=torch.long))
        self.register_buffer("kept", torch.zeros(len(task.ratios), dtype=torch.long))

    def before_step(self, now: Moment) -> None:
        """Make the round whose part of the phase begins."""
        if int(self.made) <= round_of(now.epoch, now.epochs, len(self.task.ratios) - 1):
            self._prune(self._network[0])

    def after_step(self, now: Moment, optimizer: torch.optim.Optimizer) -> None:
        """Forget the momentum of what the step's round removed."""
        if self._removed:
            self.zero_dead(optimizer)
            self._removed = False

    def finish(self, net: nn.Module) -> None:
        """Make the last round."""
        self._prune(net)

    def result(self) -> dict[str, Any]:
        """Return the ratio of each round, what it left, and for how long that was trained."""
        epochs = [*[self.passes] * (len(self.task.ratios) - 1), 0]
        return describe_rounds(list(self.task.ratios), self.kept.tolist(), epochs)

    def _prune(self, net: nn.Module) -> None:
        with self.folded():
            masks = self.decide(net, self.task.ratios[int(self.made)], self.masks())
        self.set_masks(masks)
        self.zero_dead()
        self._removed = True
        self.kept[int(self.made)] = sum(int(mask.sum()) for mask in self.masks().values())
        self.made += 1
