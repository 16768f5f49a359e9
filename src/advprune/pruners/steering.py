"""Flying Bird+: the total follows overfitting and the validation loss (Chen et al. 2022).

https://arxiv.org/abs/2202.09844. What differs from the authors' code, which ends at a sparsity that
nobody chose: no update takes the total further than ``tolerance`` from what was asked for, and the
last one brings each layer back to it. So the result is compared at its ratio, and no epoch before
that is the best.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from advprune.ranges import Share

#: Epochs whose differences are looked at, by the authors' code.
WINDOW = 5
#: How much more is dropped where overfitting grows, and grown where the loss does.
MORE_DROPPED, MORE_GROWN = 0.4, 0.05


class Steering(nn.Module):
    """Drop more where robust overfitting grows, grow more where the validation loss does.

    Of the last four changes, at least half have to be so: the gap between robust accuracy in
    training and in validation rises, or the loss does not fall.

    Args:
        after: share of training before which the total stays.
        tolerance: how far the total may go from what was asked for, as a share of all weights.
    """

    gaps: Tensor
    losses: Tensor
    seen: Tensor

    def __init__(self, *, after: Share = 0.5, tolerance: Share = 0.02) -> None:
        super().__init__()
        self.after, self.tolerance = after, tolerance
        for name in ("gaps", "losses"):
            self.register_buffer(name, torch.zeros(WINDOW, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def note(self, measured: Mapping[str, float]) -> None:
        """Note an epoch."""
        gap = measured["train_robust_acc"] - measured["robust_acc"]
        for values, value in ((self.gaps, gap), (self.losses, measured["loss"])):
            values.copy_(values.roll(-1))
            values[-1] = value
        self.seen += 1

    def overfits(self) -> bool:
        """Return whether at least half of the changes of the gap are positive."""
        return self._mostly(self.gaps.diff() > 0)

    def worsens(self) -> bool:
        """Return whether at least half of the changes of the loss are not negative."""
        return self._mostly(self.losses.diff() >= 0)

    def _mostly(self, changes: Tensor) -> bool:
        return bool(self.seen >= WINDOW) and bool(changes.sum() * 2 >= WINDOW - 1)

    def plan(
        self, living: Sequence[int], share: float, asked: Sequence[int], room: float
    ) -> tuple[list[int], list[int]]:
        """Return how many weights each layer drops, and grows.

        Args:
            living: weights of each layer.
            share: of them that an update drops.
            asked: how many each layer is to have in the end.
            room: how far the total may go from the sum of those.
        """
        drop = [math.ceil(share * count) for count in living]
        more = [math.ceil(MORE_DROPPED * share * n) if self.overfits() else 0 for n in living]
        grow = [n + (round(MORE_GROWN * n) if self.worsens() else 0) for n in drop]
        total = sum(living) - sum(drop) - sum(more) + sum(grow)
        if abs(total - sum(asked)) > room:
            return drop, drop
        return [min(d + m, n) for d, m, n in zip(drop, more, living, strict=True)], grow


def back(living: Sequence[int], share: float, asked: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return how many weights each layer drops and grows so that it has what was asked for."""
    drop = [max(math.ceil(share * n), n - a) for n, a in zip(living, asked, strict=True)]
    grow = [a - n + d for n, d, a in zip(living, drop, asked, strict=True)]
    return drop, grow
