"""Define threat models, the balls of perturbations, and certificates, what is proved about them.

An attack needs three verbs of it: ``sample`` a start, take the ``steepest`` direction, ``project``
back. Images are float tensors (N, C, H, W) in [0, 1]; ``eps`` is in the same units, so eight grey
levels are ``8/255``.
"""

import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeAlias

import torch
from annotated_types import Gt, Le
from torch import Tensor

from advprune.errors import UserError
from advprune.ranges import PIXEL_UNITS, Quotient, fraction

#: How random numbers are drawn: (random function, like) -> numbers of the shape of ``like``.
Draw: TypeAlias = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]


def _radius(eps: float | str, largest: float) -> float:
    """Return ``eps`` as a float, if it is a radius in pixel units of [0, 1]."""
    value = fraction(eps)
    if not 0 < value <= largest:
        raise UserError(
            f"eps={eps} is not in (0, {largest:g}]; eps is in [0,1] pixel units; "
            "for eight grey levels write 8/255"
        )
    return value


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    """Shape one value per image (N,) to multiply ``like`` (N, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True, init=False)
class Linf:
    """A ball in which every pixel may change by at most ``eps``.

    Args:
        eps: radius, a float in (0, 1] or a fraction such as ``"8/255"``.

    Raises:
        UserError: if ``eps`` is no number in that range.
    """

    eps: float
    norm: ClassVar[str] = "linf"

    def __init__(self, eps: Annotated[float, Gt(0), Le(1), PIXEL_UNITS] | Quotient):
        object.__setattr__(self, "eps", _radius(eps, 1))

    def sample(self, x: Tensor, draw: Draw = operator.call) -> Tensor:
        """Draw points uniformly in the ball around ``x`` (N, C, H, W), clipped to [0, 1]."""
        return (x + self.eps * (2 * draw(torch.rand_like, x) - 1)).clamp(0, 1)

    def steepest(self, grad: Tensor) -> Tensor:
        """Return the direction of length 1 in which a linear function grows fastest: the sign.

        Args:
            grad: the function's gradient, (N, C, H, W).
        """
        return grad.sign()

    def clip(self, delta: Tensor, radius: Tensor | None = None) -> Tensor:
        """Return the perturbation in the ball nearest to ``delta``, whatever the pixel range.

        Args:
            delta: (N, C, H, W).
            radius: in place of ``eps``, one an image (N,).
        """
        if radius is None:
            return delta.clamp(-self.eps, self.eps)
        largest = _per_image(radius, delta)
        return delta.clamp(-largest, largest)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Bring ``x_adv`` into the ball around ``x`` and into [0, 1]."""
        return (x + self.clip(x_adv - x)).clamp(0, 1)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Measure the largest change of a pixel, per image: (N,)."""
        return (x_adv - x).flatten(1).abs().amax(1)


@dataclass(frozen=True, init=False)
class L2:
    """A ball in which the Euclidean length of an image's change is at most ``eps``.

    Args:
        eps: radius, a float in (0, 10] or a fraction such as ``"128/255"``.

    Raises:
        UserError: if ``eps`` is no number in that range.
    """

    eps: float
    norm: ClassVar[str] = "l2"

    def __init__(self, eps: Annotated[float, Gt(0), Le(10), PIXEL_UNITS] | Quotient):
        object.__setattr__(self, "eps", _radius(eps, 10))

    def sample(self, x: Tensor, draw: Draw = operator.call) -> Tensor:
        """Draw points uniformly in the ball around ``x`` (N, C, H, W), clipped to [0, 1]."""
        dimensions = x[0].numel() if len(x) else 1
        uniform = draw(lambda batch: torch.rand(len(batch), device=x.device, dtype=x.dtype), x)
        radius = self.eps * _per_image(uniform ** (1 / dimensions), x)
        return (x + radius * self.steepest(draw(torch.randn_like, x))).clamp(0, 1)

    def steepest(self, grad: Tensor) -> Tensor:
        """Return the direction of length 1 in which a linear function grows fastest.

        Args:
            grad: the function's gradient, (N, C, H, W). A zero gradient stays zero, and entries
                that are NaN count as zero.
        """
        grad = grad.nan_to_num()
        # Squares of a small gradient underflow: a confident network would seem to have none.
        peak = _per_image(grad.flatten(1).abs().amax(1), grad)
        scaled = grad / torch.where(peak > 0, peak, 1)
        length = _per_image(scaled.flatten(1).norm(dim=1), grad)
        return scaled / torch.where(length > 0, length, 1)

    def clip(self, delta: Tensor, radius: Tensor | None = None) -> Tensor:
        """Return the perturbation in the ball nearest to ``delta``, whatever the pixel range.

        Args:
            delta: (N, C, H, W).
            radius: in place of ``eps``, one an image (N,).
        """
        length = _per_image(delta.flatten(1).norm(dim=1), delta)
        if radius is None:
            return delta * (self.eps / length.clamp_min(self.eps))
        largest = _per_image(radius, delta)
        return delta * (largest / length.maximum(largest).clamp_min(torch.finfo(delta.dtype).tiny))

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Bring ``x_adv`` into the ball around ``x``, then into [0, 1], which is no farther."""
        return (x + self.clip(x_adv - x)).clamp(0, 1)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Measure the Euclidean length of the change, per image: (N,)."""
        return (x_adv - x).flatten(1).norm(dim=1)


Threat: TypeAlias = Linf | L2


@dataclass(frozen=True)
class Certificate:
    """What is proved of N images; each tensor is (N,).

    Attributes:
        certified: bool: the prediction is right, and proved so on all images the threat allows.
        radius: float: how far around the image the prediction is proved; 0 if it is not.
        predicted: int64: the class; -1 where there is none.
        abstained: bool: the certifier gives no answer.
        norm: norm of ``radius``, ``linf`` or ``l2``.
        smoothed: whether this is about the network under noise and holds with a probability; an
            attack on the network itself cannot contradict it.
    """

    certified: Tensor
    radius: Tensor
    predicted: Tensor
    abstained: Tensor
    norm: str
    smoothed: bool = False


def proves(attack: Callable[..., object]) -> bool:
    """Return whether an "attack" is a certifier: one annotated to return a ``Certificate``."""
    return inspect.signature(attack).return_annotation is Certificate
