"""Robust bird: stop early, when the mask of the largest weights has settled (Chen et al. 2022).

ICLR 2022, https://arxiv.org/abs/2202.09844. A new network trains on clean images until its mask
hardly changes from epoch to epoch; then it is pruned, keeps its values, and trains robustly.
Written from a description of the authors' code. Differs from it: exact counts; any scope; beside
their rule one that is relative to what can change at all, for at high sparsity theirs always fires
at the first check.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.pruners.process import Moment
from advprune.pruners.reparametrised import Reparametrised
from advprune.pruners.task import Task
from advprune.ranges import Positive

#: Masks that are compared: the newest with each of the others.
WINDOW = 5
#: Largest distance of settled masks, by rule [C, D].
THRESHOLDS = {"absolute": 0.08, "relative": 0.2}


class RobustBird(Reparametrised):
    """Train dense; end the phase when five epochs' masks of the convolutions are close.

    Args:
        net: the network that the phase starts from, as a rule a new one.
        task: what is asked for.
        stop: ``absolute`` compares the share of entries that differ; ``relative`` divides it by
            the largest that two masks of this density can have.
        threshold: the distance below which masks have settled; None: 0.08 and 0.2.

    Raises:
        UserError: if ``stop`` has no such member, or the network has no convolution.
    """

    recent: Tensor
    epochs: Tensor
    fired: Tensor

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        *,
        stop: Literal["absolute", "relative"] = "absolute",
        threshold: Positive | None = None,
    ) -> None:
        super().__init__(net, task)
        if stop not in THRESHOLDS:
            raise UserError(f"stop={stop!r} is not one of {', '.join(THRESHOLDS)}")
        self.stop = stop
        self.threshold = THRESHOLDS[stop] if threshold is None else threshold
        convolutions = self._convolutions()
        if not convolutions:
            raise UserError("robust bird compares masks of convolutions, and the network has none")
        size = sum(weight.numel() for weight in convolutions.values())
        self.register_buffer("recent", torch.zeros(WINDOW, size, dtype=torch.bool))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.long))
        self.register_buffer("fired", torch.zeros((), dtype=torch.bool))

    def after_epoch(self, now: Moment, measured: Mapping[str, float]) -> None:
        """Draw the epoch's mask, and see whether it has settled."""
        masks = self.task.masks({n: w.abs() for n, w in self._convolutions().items()})
        self.recent.copy_(self.recent.roll(1, 0))
        self.recent[0] = torch.cat([mask.flatten() for mask in masks.values()])
        self.epochs += 1
        self.fired.fill_(int(self.epochs) >= WINDOW and self.distance() < self.threshold)

    def distance(self) -> float:
        """Return the largest distance of the newest mask from one of the four before it."""
        differing = (self.recent[1:] ^ self.recent[:1]).double().mean(1).max()
        return float(differing) / (self._largest() if self.stop == "relative" else 1)

    def done(self) -> bool:
        """Return whether the mask has settled."""
        return bool(self.fired)

    def finish(self, net: nn.Module) -> None:
        """Keep the largest weights of all that may go, with their values."""
        self.keep_largest()

    def result(self) -> dict[str, Any]:
        """Return after how many epochs the phase ended, whether its mask had settled, and how."""
        epochs = int(self.epochs)
        distance = self.distance() if epochs >= WINDOW else None
        facts = {"settled": self.done(), "epochs": epochs, "mask_distance": distance}
        doubts = {} if self.done() else {"doubts": [self._never_settled(epochs, distance)]}
        return {"rounds": [self.task.ratio], **facts, **doubts}

    def _never_settled(self, epochs: int, distance: float | None) -> str:
        seen = f"fewer than the {WINDOW} that are compared"
        if distance is not None:
            seen = f"whose masks were {distance:.3g} apart, and not below {self.threshold:g}"
        return (
            f"robust bird's mask had not settled after {epochs} epochs, {seen}, when it was "
            "pruned: give more pruner.epochs, or a larger pruner.process.threshold"
        )

    def _convolutions(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.composed().items() if value.dim() == 4}

    def _largest(self) -> float:
        """Return the largest distance of two masks: twice the rarer of kept and removed."""
        density = float(self.recent[0].double().mean())
        return max(2 * min(density, 1 - density), 1e-12)
