"""Knowledge distillation (Hinton et al. 2015, https://arxiv.org/abs/1503.02531).

A network learns the softened predictions of another, on clean images: no label and no attack.
PwoA's first term (``pwoa.py``); Hinton's cross-entropy beside it is not here.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.logits import kl
from advprune.ranges import Positive, refuse_outside


def distillation(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    progress: float,
    teacher: Callable[[Tensor], Tensor],
    temperature: Positive = 30.0,
) -> Tensor:
    """Compute T^2 * KL(softmax(teacher / T) || softmax(model / T)), a mean over the batch.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); the loss is computed in its present
            mode.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels; not used.
        progress: share of training that is done, in [0, 1); not used.
        teacher: images -> logits (N, K), in eval mode; it gets no gradient.
        temperature: T, by which both sides' logits are divided, above 0.

    Returns:
        A scalar.

    Raises:
        UserError: if ``temperature`` is not positive, or the teacher has other classes.
    """
    refuse_outside(distillation, temperature=temperature)
    return softened_kl(model(x), teacher_logits(teacher, x), temperature)


def teacher_logits(teacher: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the teacher's logits (N, K), without a graph."""
    with torch.no_grad():
        return teacher(x).detach()


def softened_kl(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return T^2 * KL(softmax(target / T) || softmax(logits / T)), a mean over the batch.

    Args:
        logits: of the network that learns, (N, K).
        target: the teacher's, (N, K).
        temperature: T, above 0.

    Raises:
        UserError: if the two have different classes.
    """
    if target.shape != logits.shape:
        raise UserError(
            f"the teacher tells {target.shape[1]} classes apart and the network "
            f"{logits.shape[1]}: give a teacher of the same classes"
        )
    return temperature**2 * kl(logits / temperature, (target / temperature).softmax(1)).mean()
