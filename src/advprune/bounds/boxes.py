"""Regions of a network's values: intervals, with the Euclidean ball they come from if any."""

from functools import cached_property

import torch
from torch import Tensor

from advprune.errors import UserError
from advprune.threat import Threat

#: Under a square root, so that its slope is finite at a radius of exactly zero.
TINY = 1e-30


#: (centre, scale) of an ellipsoid, see ``Interval.ball``.
Ball = tuple[Tensor, Tensor]


class Interval:
    """Values (N, ...) around a centre, none farther off than a radius.

    Layers with weights take centres to centres and radii to radii; only operations that are not
    linear need the ends, which are computed on first use.

    Attributes:
        centre: (N, ...).
        radius: (N, ...), at least 0.
        ball: (centre, scale), both of that shape: the values also are ``centre + scale * d`` with a
            Euclidean length of ``d`` of at most 1; None where no such thing is known.
    """

    def __init__(self, centre: Tensor, radius: Tensor, ball: Ball | None = None) -> None:
        self.centre, self.radius, self.ball = centre, radius, ball

    @classmethod
    def between(cls, lower: Tensor, upper: Tensor, ball: Ball | None = None) -> "Interval":
        """Make the interval from ``lower`` to ``upper``, which are kept without rounding."""
        centre = lower.lerp(upper, 0.5)
        box = cls(centre, upper - centre, ball)
        box.lower, box.upper = lower, upper
        return box

    @cached_property
    def lower(self) -> Tensor:
        """Return the lower end, (N, ...)."""
        return self.centre - self.radius

    @cached_property
    def upper(self) -> Tensor:
        """Return the upper end, (N, ...)."""
        return self.centre + self.radius


def input_region(x: Tensor, threat: Threat, scale: float = 1.0) -> Interval:
    """Return the images that a threat allows around ``x``, cut to [0, 1].

    Args:
        x: images (N, C, H, W) in [0, 1].
        threat: the ball, L-infinity or L2.
        scale: share of ``threat.eps`` that is the radius, in [0, 1]; schedules raise it.

    Raises:
        UserError: if ``scale`` is outside [0, 1], or an image outside its pixel range.
    """
    if not 0 <= scale <= 1:
        raise UserError(
            f"scale={scale} is a share of eps={threat.eps}, in [0, 1]; "
            "for a larger ball give threat.eps"
        )
    if len(x) and not _in_range(*torch.aminmax(x)):
        raise UserError(
            "bounds are proved for pixels in [0, 1], and an image has others; give images in [0, 1]"
        )
    eps = scale * threat.eps
    if x.dim() == 4:  # in this order convolutions, above all transposed ones, are faster on a CPU
        x = x.contiguous(memory_format=torch.channels_last)
    lower, upper = (x - eps).clamp_min_(0), (x + eps).clamp_max_(1)
    return Interval.between(
        lower, upper, (x, torch.full_like(x, eps)) if threat.norm == "l2" else None
    )


def _in_range(least: Tensor, most: Tensor) -> bool:
    return bool((least >= 0) & (most <= 1))


def minimum(coef: Tensor, region: Interval) -> Tensor:
    """Bound linear functions over a region from below.

    The minimum is exact for a box; for a cut ball it is the better of two bounds.

    Args:
        coef: coefficients (N, S, ...): S functions per example, of values (N, ...).
        region: the region of the values (N, ...).

    Returns:
        (N, S).
    """
    least = dot(coef, region.centre) - dot(coef.abs(), region.radius)
    if region.ball is not None:
        centre, scale = region.ball
        length = dot(coef.square(), scale.square()).clamp_min(TINY).sqrt()
        least = torch.maximum(least, dot(coef, centre) - length)
    return least


def dot(coef: Tensor, values: Tensor) -> Tensor:
    """Apply linear functions (N, S, ...) to values (N, ...): (N, S)."""
    if coef.dim() == 5:  # channels last, as these tensors lie in memory
        coef, values = coef.permute(0, 1, 3, 4, 2), values.permute(0, 2, 3, 1)
    return torch.bmm(coef.flatten(2), values.flatten(1).unsqueeze(2)).squeeze(2)


def specification(y: Tensor, classes: int, like: Tensor) -> Tensor:
    """Return rows e_y - e_j for every class j but y: times logits they give the margins.

    Args:
        y: labels (N,) int64.
        classes: number of classes K.
        like: a tensor of the wanted type and device.

    Returns:
        (N, K - 1, K).

    Raises:
        UserError: if a label is no class of the network.
    """
    if bool((y < 0).any() | (y >= classes).any()):
        raise UserError(
            f"labels run from {int(y.min())} to {int(y.max())}, "
            f"and the network has {classes} classes"
        )
    eye = torch.eye(classes, dtype=like.dtype, device=like.device)
    return eye[y].unsqueeze(1) - eye[_others(y, classes)]


def with_label(margins: Tensor, y: Tensor) -> Tensor:
    """Insert a zero at the label into margins (N, K - 1) over the other classes: (N, K).

    The negative of the result are worst-case logits.
    """
    classes = margins.shape[1] + 1
    return torch.zeros(len(y), classes, dtype=margins.dtype, device=margins.device).scatter(
        1, _others(y, classes), margins
    )


def _others(y: Tensor, classes: int) -> Tensor:
    """Return the classes other than y, (N, K - 1)."""
    index = torch.arange(classes - 1, device=y.device).expand(len(y), -1)
    return index + (index >= y.unsqueeze(1)).to(index.dtype)
