"""Measure how far the nearest misclassified point is that a minimum-norm attack claims to know."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from advprune.logits import is_right
from advprune.threat import Threat


@torch.no_grad()
def minimum_distance(
    net: nn.Module, candidates: Iterable[Tensor], x: Tensor, y: Tensor, threat: Threat
) -> Tensor:
    """Return each image's distance to its nearest candidate that holds: (N,), infinite of none.

    A candidate holds if all its pixels are in [0, 1] and the network has it wrong, whatever the
    attack says of it.

    Args:
        net: in eval mode, pixels (N, C, H, W) -> logits (N, K).
        candidates: points, each (N, C, H, W), of any distance.
        x: clean images (N, C, H, W) in [0, 1].
        y: their labels (N,) int64.
        threat: whose norm measures; its radius is not looked at.
    """
    least = torch.full(y.shape, torch.inf, dtype=x.dtype, device=x.device)
    for points in candidates:
        inside = ((points >= 0) & (points <= 1)).flatten(1).all(1)  # NaN is neither
        holds = inside & ~is_right(net(points), y)
        least = torch.where(holds, threat.distance(points, x).minimum(least), least)
    return least
