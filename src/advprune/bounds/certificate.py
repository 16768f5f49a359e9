"""Certify images by interval and linear bounds.

A certifier is configured like an attack, and recognised by its return annotation. Margins are
computed in float64, so that rounding (of TF32 above all) decides nothing that the network's own
rounding does not.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from advprune.bounds.graph import trace
from advprune.bounds.interval import ibp
from advprune.bounds.linear import crown, crown_ibp
from advprune.frozen import frozen
from advprune.logits import predict
from advprune.ranges import Count
from advprune.threat import Certificate, Threat


def certify_ibp(
    model: nn.Module, x: Tensor, y: Tensor, *, threat: Threat, positions: Tensor
) -> Certificate:
    """Certify images by interval bounds (Gowal et al. 2018, https://arxiv.org/abs/1810.12715).

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        threat: the ball on which the class is proved.
        positions: places of the images in the test set, (N,) int64; not used.

    Returns:
        One entry per image; no image abstains.

    Raises:
        UserError: if bounds cannot read the network, or it is in train mode.
    """
    return _certify(model, x, y, threat, lambda net, images: ibp(net, images, y, threat=threat))


def certify_crown_ibp(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    positions: Tensor,
    rows: Count | None = None,
) -> Certificate:
    """Certify images by the better of interval bounds and one linear pass over them.

    From Zhang et al. 2020, https://arxiv.org/abs/1906.06316.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        threat: the ball on which the class is proved.
        positions: places of the images in the test set, (N,) int64; not used.
        rows: (image, margin) pairs computed at once, at least 1; None for all.

    Returns:
        One entry per image; no image abstains.

    Raises:
        UserError: if bounds cannot read the network, or it is in train mode.
    """

    def better_bound(net: nn.Module, images: Tensor) -> Tensor:
        linear = crown_ibp(net, images, y, threat=threat, rows=rows)
        return torch.maximum(linear, ibp(net, images, y, threat=threat))

    return _certify(model, x, y, threat, better_bound)


def certify_crown(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    positions: Tensor,
    rows: Count | None = 20_000,
) -> Certificate:
    """Certify images by linear bounds of every layer.

    CROWN, Zhang et al. 2018, https://arxiv.org/abs/1811.00866.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        threat: the ball on which the class is proved.
        positions: places of the images in the test set, (N,) int64; not used.
        rows: (image, neuron) pairs computed at once, at least 1; None for all.

    Returns:
        One entry per image; no image abstains.

    Raises:
        UserError: if bounds cannot read the network, or it is in train mode.
    """
    return _certify(
        model, x, y, threat, lambda net, images: crown(net, images, y, threat=threat, rows=rows)
    )


@torch.no_grad()
def precise(model: nn.Module) -> nn.Module:
    """Return a copy of the network in float64.

    Raises:
        UserError: if bounds cannot read the network, or it is in train mode.
    """
    trace(model)
    return copy.deepcopy(model).double()


def _certify(
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
    # a bound that is not finite proves nothing
    certified = (least > 0) & least.isfinite() & (predicted == y)
    radius = torch.where(certified, threat.eps, 0.0).to(x.dtype)
    return Certificate(certified, radius, predicted, torch.zeros_like(certified), threat.norm)
