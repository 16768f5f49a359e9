"""Projection onto a hyperplane inside the box [0, 1], for many points at once, as FAB needs it.

Croce and Hein 2020, https://arxiv.org/abs/1907.02044, eq. 4 to 6. Their algorithm sorts the
breakpoints of a piecewise linear function. This one walks up it by Newton's method: it rises and is
concave, so the walk never overshoots, and ends on the root's own piece after a handful of passes,
without sorting.
"""

import torch
from torch import Tensor

#: The most passes of Newton's method: five to ten are usual.
PASSES = 60


def to_hyperplane(point: Tensor, normal: Tensor, gap: Tensor, norm: str) -> Tensor:
    """Return the shortest displacement d with ``normal · d = gap`` and point + d in [0, 1].

    Args:
        point: (R, D) in [0, 1].
        normal: (R, D).
        gap: the wanted ``normal · d``, (R,). Where the box does not reach that far, d goes as far
            as it can.
        norm: norm in which d is shortest, ``linf`` or ``l2``.

    Returns:
        d (R, D); zero where the normal is.
    """
    largest = normal.abs().amax(1).clamp_min(torch.finfo(normal.dtype).tiny)
    weight, target = normal.abs() / largest[:, None], gap.abs() / largest
    away = normal.sign() * torch.where(gap >= 0, 1.0, -1.0)[:, None]
    room = torch.where(away > 0, 1 - point, point).masked_fill(away == 0, 0.0)
    speed = torch.ones_like(weight) if norm == "linf" else weight
    return away * torch.minimum(_length(weight, speed, room, target)[:, None] * speed, room)


def _length(weight: Tensor, speed: Tensor, room: Tensor, target: Tensor) -> Tensor:
    """Return the least t with sum(weight * min(t * speed, room)) = target, (R,)."""
    rate = weight * speed
    t = torch.zeros_like(target)
    for _ in range(PASSES):
        unbounded = t[:, None] * speed
        missing = target - (weight * torch.minimum(unbounded, room)).sum(1)
        slope = (rate * unbounded.lt_(room)).sum(1)  # in place, for a product with bools is slow
        step = torch.where(slope > 0, missing / slope, 0.0).clamp_min(0)
        t = t + step
        if bool((step <= 1e-6 * t).all()):
            break
    return t
