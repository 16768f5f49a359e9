"""Fisher pruning: half the diagonal Fisher information times w^2 (Theis et al. 2018).

https://arxiv.org/abs/1801.05787

It estimates by how much the loss grows without a weight (optimal brain damage, LeCun et al. 1990).
Here the loss is the adversarial one: gradients are taken on attacked images. Differs from the
paper: single weights, not feature maps; no term for the cost of computing. The mean is over single
images' squared gradients, so the size of a batch does not matter.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from advprune.frozen import frozen
from advprune.masks import Scores, prunable
from advprune.pruners.batches import Attack, Batches, attacked
from advprune.pruners.eligible import Eligible
from advprune.ranges import Count


def fisher(
    model: nn.Module,
    batches: Batches,
    *,
    attack: Attack | None = None,
    count: Count | None = 16,
    at_once: Count = 16,
    eligible: Eligible = prunable,
) -> Scores:
    """Score each eligible parameter by 1/2 * mean(g^2) * w^2.

    Args:
        model: a network from images (N, C, H, W) to logits (N, K).
        batches: training batches (x, y).
        attack: (model, x, y) -> x_adv that the gradients are taken at; None: the clean images.
        count: of batches looked at; None: all.
        at_once: images whose gradients are in memory together; no score depends on it but for
            rounding.
        eligible: model -> the parameters scored.

    Returns:
        One tensor >= 0 per eligible parameter, of its shape. The model, in eval mode meanwhile, is
        left as found.

    Raises:
        UserError: if there is no batch.
    """
    weights = {name: parameter.detach() for name, parameter in eligible(model).items()}
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    images = 0
    with frozen(model):
        for x, y in attacked(model, batches, attack, count):
            for part in zip(x.split(at_once), y.split(at_once), strict=True):
                for name, square in _squared_gradients(model, weights, *part).items():
                    total[name] += square
            images += len(y)
    return {name: weights[name].square() * total[name] / (2 * images) for name in weights}


def _squared_gradients(
    model: nn.Module, weights: dict[str, Tensor], x: Tensor, y: Tensor
) -> dict[str, Tensor]:
    """Return the sum over images of each image's squared gradient of the cross-entropy."""

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, weights, (x[None],)), y[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))(weights, x, y)
    return {name: gradient.square().sum(0) for name, gradient in each.items()}
