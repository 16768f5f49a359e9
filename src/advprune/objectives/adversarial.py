"""Adversarial training (Madry et al. 2018, https://arxiv.org/abs/1706.06083).

Differs from the paper in attacking the network in eval mode. With a one-step attack from a uniform
start and step 1.25 eps it is fast adversarial training, FGSM-RS (Wong et al. 2020,
https://arxiv.org/abs/2001.03994): the YAML `fast`.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


def adversarial(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    progress: float,
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> Tensor:
    """Compute the mean cross-entropy on ``attack(model, x, y)``.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); the loss is computed in its present
            mode.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        progress: share of training that is done, in [0, 1); not used.
        attack: (model, x, y) -> x_adv (N, C, H, W).

    Returns:
        A scalar.
    """
    return F.cross_entropy(model(attack(model, x, y)), y)
