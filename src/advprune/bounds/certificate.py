"""What certified evaluation gives an image, and the certificates of interval and linear bounds.

A certifier is given like an attack; the frame knows it by what it says it returns. Margins are
computed in float64, so that rounding (of TF32 above all) decides nothing that the network's own
rounding does not.
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advprune.bounds.graph import trace
from advprune.bounds.interval import ibp
from advprune.bounds.linear import crown, crown_ibp
from advprune.frozen import frozen
from advprune.prediction import predict
from advprune.ranges import Count
from advprune.threat import Threat


@dataclass(frozen=True)
class Certificate:
    """One entry an image, each (N,).

    Attributes:
        certified: bool: the prediction is right, and proved so on all images the threat allows.
        radius: how far the prediction is proved, in the norm ``norm``; 0 if it is not.
        predicted: int64: the class; -1 where none is given.
        abstained: bool: the certifier gives no answer.
        norm: of ``radius``.
        smoothed: it speaks of the network under noise and holds with a probability; an attack on
            the network itself cannot contradict it.
    """

    certified: Tensor
    radius: Tensor
    predicted: Tensor
    abstained: Tensor
    norm: str
    smoothed: bool = False


def proves(attack: Callable[..., object]) -> bool:
    """Whether an "attack" is a certifier: one that says it returns a ``Certificate``."""
    return inspect.signature(attack).return_annotation is Certificate


def certify_ibp(
    model: nn.Module, x: Tensor, y: Tensor, *, threat: Threat, positions: Tensor
) -> Certificate:
    """By interval bounds.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        threat: what is proved: no image it allows changes the class.
        positions: of the images in the test set; of the signature, nothing here depends on it.
    """
    return _of_margins(model, x, y, threat, lambda net, images: ibp(net, images, y, threat=threat))


def certify_crown_ibp(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    positions: Tensor,
    rows: Count | None = None,
) -> Certificate:
    """By the better of interval bounds and one linear pass over them; see ``certify_ibp`` and ``linear.crown_ibp``."""

    def both(net: nn.Module, images: Tensor) -> Tensor:
        linear = crown_ibp(net, images, y, threat=threat, rows=rows)
        return torch.maximum(linear, ibp(net, images, y, threat=threat))

    return _of_margins(model, x, y, threat, both)


def certify_crown(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    positions: Tensor,
    rows: Count | None = 20_000,
) -> Certificate:
    """By linear bounds of every layer; see ``certify_ibp`` and ``linear.crown``."""
    return _of_margins(
        model, x, y, threat, lambda net, images: crown(net, images, y, threat=threat, rows=rows)
    )


@torch.no_grad()
def precise(model: nn.Module) -> nn.Module:
    """A copy in float64.

    Raises:
        UserError: if bounds cannot read the network as it is; train mode included.
    """
    trace(model)
    return copy.deepcopy(model).double()


def _of_margins(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    bound: Callable[[nn.Module, Tensor], Tensor],
) -> Certificate:
    net = precise(model)
    with frozen(net), torch.no_grad():
        images = x.double()
        margins, predicted = bound(net, images), predict(net(images))
    least = margins.scatter(1, y[:, None], torch.inf).amin(1)
    certified = (
        (least > 0) & least.isfinite() & (predicted == y)
    )  # a bound that is not finite proves nothing
    radius = torch.where(certified, threat.eps, 0.0).to(x.dtype)
    return Certificate(certified, radius, predicted, torch.zeros_like(certified), threat.norm)
