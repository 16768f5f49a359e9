"""Kronecker factors of a layer's curvature, and what removing weights costs by them (K-FAC).

Martens and Grosse 2015, https://arxiv.org/abs/1503.05671; for convolutions Grosse and Martens 2016,
https://arxiv.org/abs/1602.01407. Of the factor of outputs only the diagonal is used.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from advprune.frozen import frozen, hooked

Layer = nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class Factors:
    """Curvature of one layer: the Hessian's block of filter i is about ``outputs[i] * inputs``.

    Attributes:
        inputs: (groups, I, I), second moments of what the filters of each group read.
        outputs: (O,), second moments of the loss's gradient at each filter's output.
    """

    inputs: Tensor
    outputs: Tensor


def factors(
    model: nn.Module, weights: dict[str, Tensor], x: Tensor, y: Tensor, layers: dict[str, Layer]
) -> dict[str, Factors]:
    """Return the factors of each layer for the cross-entropy of one batch.

    Args:
        model: the network; in eval mode meanwhile.
        weights: by parameter name, used in place of the network's own.
        x: images (B, C, H, W).
        y: labels (B,).
        layers: by name; each is called once in a forward pass.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        layer.register_forward_hook(lambda m, i, out, n=name: seen.update({n: (i[0], out)}))
        for name, layer in layers.items()
    ]
    with hooked(hooks), frozen(model), torch.enable_grad():
        logits = functional_call(model, weights, (x.detach().requires_grad_(),))
        loss = F.cross_entropy(logits, y, reduction="sum")
        slopes = torch.autograd.grad(loss, [seen[name][1] for name in layers])
    return {
        name: layer_factors(layer, seen[name][0].detach(), slope)
        for (name, layer), slope in zip(layers.items(), slopes, strict=True)
    }


def layer_factors(layer: Layer, x: Tensor, slope: Tensor) -> Factors:
    """Return the factors of a layer with input ``x`` and, image by image, the loss's ``slope``.

    With B images and T places of a map: A = sum(a a^T) / (B T^2) and G_ii = T/B * sum(g_i^2); with
    T = 1, as in a linear layer, both are plain means. A last entry 1 stands for the bias.
    """
    a, g = patches(layer, x), slope.reshape(len(slope), slope.shape[1], -1)
    images, places = len(g), g.shape[2]
    moments = torch.einsum("bgit,bgjt->gij", a, a) / (images * places**2)
    return Factors(moments, g.square().sum((0, 2)) * places / images)


def patches(layer: Layer, x: Tensor) -> Tensor:
    """Return what each filter reads at each place, (B, groups, I, T), a 1 appended for a bias."""
    if isinstance(layer, nn.Linear):
        a = x[:, None, :, None]
    else:
        assert layer.padding_mode == "zeros"
        assert not isinstance(layer.padding, str)
        a = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        a = a.view(len(x), layer.groups, -1, a.shape[2])
    return a if layer.bias is None else torch.cat([a, torch.ones_like(a[:, :, :1])], 2)


def damage(change: Tensor, curvature: Factors) -> Tensor:
    """Return each weight's share of the loss's growth when ``change`` is taken off a layer.

    S_ij = 1/2 G_ii dW_ij (dW A)_ij: their sum over j is 1/2 G_ii dW_i^T A dW_i. A share can be
    negative. ``change`` is dW (O, I), that of a bias in the last column.
    """
    groups, width = curvature.inputs.shape[:2]
    spread = (change.view(groups, -1, width) @ curvature.inputs).view_as(change)
    return curvature.outputs[:, None] * change * spread / 2
