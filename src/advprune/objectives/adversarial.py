"""Adversarial training (Madry et al. 2018, https://arxiv.org/abs/1706.06083).

Differs from the paper in attacking the network in eval mode, unless ``attack_mode`` says so. With a
one-step attack from a uniform start and step 1.25 eps it is fast adversarial training, FGSM-RS
(Wong et al. 2020, https://arxiv.org/abs/2001.03994): the YAML `fast`.
"""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from advprune.frozen import StaysInTraining
from advprune.ranges import ShareBelowOne


def adversarial(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    progress: float,
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor],
    label_smoothing: ShareBelowOne | None = None,
    attack_mode: Literal["eval", "train"] | None = None,
) -> Tensor:
    """Compute the mean cross-entropy on ``attack(model, x, y)``.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); the loss is computed in its present
            mode.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        progress: share of training that is done, in [0, 1); not used.
        attack: (model, x, y) -> x_adv (N, C, H, W).
        label_smoothing: share of the label's probability that is spread over all classes, in
            [0, 1); None for none.
        attack_mode: of the network under attack; None is eval. In train mode, as some authors'
            code has it, it normalises by the attacked batch, and running statistics move in each
            attack step.

    Returns:
        A scalar.
    """
    attacked = StaysInTraining(model) if attack_mode == "train" else model
    return F.cross_entropy(model(attack(attacked, x, y)), y, label_smoothing=label_smoothing or 0.0)
