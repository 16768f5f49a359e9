"""Magnitude weighted by activations (ShrinkBench: Blalock et al. 2020).

https://arxiv.org/abs/2003.03033

The score of a weight is |w| times the mean |input| of the channel it multiplies; of a bias |b|, for
its input is 1.
"""

from functools import partial

import torch
from torch import Tensor, nn

from advprune.frozen import frozen, hooked
from advprune.masks import Scores, prunable
from advprune.pruners.batches import Batches, first
from advprune.pruners.eligible import Eligible
from advprune.ranges import Count


def activation(
    model: nn.Module,
    batches: Batches,
    *,
    count: Count | None = None,
    eligible: Eligible = prunable,
) -> Scores:
    """Score each parameter by |w * mean |input||, the mean over images and places.

    Args:
        model: a network from images (N, C, H, W) to logits (N, K).
        batches: training batches (x, y); the labels are not looked at.
        count: of batches looked at; None: all.
        eligible: model -> the parameters scored.

    Returns:
        One tensor >= 0 per eligible parameter, of its shape. The model, in eval mode meanwhile, is
        left as found.

    Raises:
        UserError: if there is no batch.
    """
    weights = eligible(model)
    layers = {f"{name}.weight".lstrip("."): module for name, module in model.named_modules()}
    sums: dict[str, Tensor] = {}
    images = 0
    watched = {
        name: layers[name]
        for name in weights
        if isinstance(layers.get(name), nn.Conv2d | nn.Linear)
    }
    hooks = [
        layer.register_forward_pre_hook(partial(_watch, sums, name))
        for name, layer in watched.items()
    ]
    with hooked(hooks), frozen(model), torch.no_grad():
        for x, _ in first(batches, count):
            model(x)
            images += len(x)
    scores = {name: weight.detach().abs() for name, weight in weights.items()}
    for name, total in sums.items():
        scores[name] = scores[name] * _spread(watched[name], total / images)
    return scores


def _watch(
    sums: dict[str, Tensor], name: str, layer: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    """Add this batch's mean |input| per channel, summed over images: (C,)."""
    x = inputs[0].abs()
    channels = x.mean((2, 3)) if x.dim() == 4 else x.reshape(-1, x.shape[-1])
    sums[name] = sums.get(name, 0) + channels.sum(0)


def _spread(layer: nn.Module, means: Tensor) -> Tensor:
    """Return channel means (C,) in a shape that multiplies the layer's weight.

    Each group of a convolution sees its own channels.
    """
    if isinstance(layer, nn.Conv2d):
        out = layer.out_channels // layer.groups
        return means.view(layer.groups, -1).repeat_interleave(out, dim=0)[:, :, None, None]
    return means
