"""Gradients of masked weights that are dead, too: what growth by gradient or momentum ranks by."""

from functools import partial

import torch
from torch import Tensor, nn

from advprune.distributed import collectives
from advprune.masks import Scores, buffer_name

#: Of the running sum; that of the recipes' SGD.
MOMENTUM = 0.9


class DenseGradients(nn.Module):
    """Watch the gradients of effective weights, and keep their running sum if it is wanted.

    Args:
        weights: by name.
        momentum: whether the sum v = 0.9 v + g is kept, as a buffer.
    """

    def __init__(self, weights: dict[str, nn.Parameter], *, momentum: bool) -> None:
        super().__init__()
        self.sums, self.keeps_sums = nn.Module(), momentum
        for name, weight in weights.items() if momentum else ():
            self.sums.register_buffer(buffer_name(name), torch.zeros_like(weight))
        self.watching = momentum
        self.latest: Scores = {}

    def begin(self, *, watch: bool) -> None:
        """Forget the last step's gradients; watch those of the next if asked, or if sums are."""
        self.watching = watch or self.keeps_sums
        self.latest = {}

    def watch(self, name: str, effective: Tensor) -> Tensor:
        """Return the effective weight, whose gradient is noted in the backward pass."""
        if self.watching and effective.requires_grad:
            effective.register_hook(partial(self.latest.__setitem__, name))
        return effective

    def end(self) -> None:
        """Average what was noted over the ranks, and add it to the sums."""
        self.latest = collectives.averaged({n: self.latest[n] for n in sorted(self.latest)})
        if self.keeps_sums:
            for name, gradient in self.latest.items():
                self.sum(name).mul_(MOMENTUM).add_(gradient)

    def sum(self, name: str) -> Tensor:
        """Return the running sum of a weight's gradients."""
        return self.sums.get_buffer(buffer_name(name))
