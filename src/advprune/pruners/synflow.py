"""SynFlow: scores conserved from layer to layer, without data (Tanaka et al. 2020).

https://arxiv.org/abs/2006.05467

A weight is worth the sum of |w| along all paths from input to output that go through it. Pruned in
many rounds, no layer is emptied. Differs from the authors' code: biases, BatchNorm's shifts and the
clipping of ReLU6 are left out, so the scores of all layers have one sum on a trained network, too;
in a new network the shifts are zero in any case.
"""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from advprune.frozen import frozen
from advprune.masks import Scores, prunable
from advprune.pruners.batches import Batches
from advprune.pruners.eligible import Eligible

#: What shifts a signal and does not scale it: the ends of tensors' names.
SHIFTS = (".bias", ".running_mean", ".mean")
#: An image so dark that no ReLU6 clips; all else only scales.
DARK = 1e-100


def synflow(model: nn.Module, batches: Batches, *, eligible: Eligible = prunable) -> Scores:
    """Score each eligible parameter by |w| * dR/d|w|, R the sum of outputs at an image of ones.

    R is computed in float64 with each weight replaced by its absolute value, for products along
    paths have no bound in a deep network.

    Args:
        model: a network from images (N, C, H, W) to logits (N, K).
        batches: training batches (x, y); only the shape of the first is read.
        eligible: model -> the parameters scored; a bias scores 0.

    Returns:
        One float64 tensor >= 0 per eligible parameter, of its shape. The model, in eval mode
        meanwhile, is left as found.
    """
    x, _ = next(iter(batches))
    positive = _positive(model)
    scored = {name: positive[name].requires_grad_() for name in eligible(model)}
    with torch.enable_grad():
        flow = _flow(model, positive, torch.ones_like(x[:1]))
        slopes = torch.autograd.grad(flow, list(scored.values()))
    return {n: w.detach() * g for (n, w), g in zip(scored.items(), slopes, strict=True)}


def lets_through(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Return whether any path of weights that are not zero leads from the image to a logit.

    Without one a pruned network gives every image the same logits, however it trains.

    Args:
        model: a network from images (N, C, H, W) to logits; left as found.
        shape: (C, H, W) of an image.
    """
    pixels = torch.linspace(0.5, 1, math.prod(shape))  # not one value, which a LayerNorm takes away
    image = pixels.reshape(1, *shape).to(next(model.parameters()).device)
    with torch.no_grad():
        return bool(_flow(model, _positive(model), image) != 0)


def _flow(model: nn.Module, positive: dict[str, Tensor], image: Tensor) -> Tensor:
    """Return R, the sum of outputs at this image."""
    with frozen(model):
        return functional_call(model, positive, (image.double() * DARK,)).sum() / DARK


def _positive(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers in float64: absolute values, and zero for what shifts."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {
        name: torch.zeros_like(tensor, dtype=torch.float64)
        if f".{name}".endswith(SHIFTS)
        else tensor.detach().double().abs()
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    }
