"""Projected gradient descent (Madry et al. 2018, https://arxiv.org/abs/1706.06083); the paper's last iterate.

Restarts differ from the paper in keeping the worst point of each image. FGSM and PGD-n are YAMLs of
it.
"""

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from advprune.attacks.gradient_step import ascend
from advprune.distributed.sharding import sharded_random
from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.losses import Loss, cross_entropy
from advprune.prediction import is_right
from advprune.ranges import Count, Length, Share, refuse_outside
from advprune.runtime.full_precision import full_precision
from advprune.threat import Threat

#: Radii that all steps together are long, where no length is given (Madry et al., section 4).
REACH = 2.5


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    steps: Count = 50,
    rel_step: Length | None = None,
    loss: Loss = cross_entropy,
    start: Literal["uniform", "gaussian", "none"] = "uniform",
    start_noise: Share = 0.001,
    restarts: Count = 1,
) -> Tensor:
    """Climb ``loss`` inside the ball around ``x``.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); attacked in eval mode, left as found.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64, or targets (N, K) for a loss that takes them (``kl``).
        threat: the ball.
        steps: gradient steps per restart.
        rel_step: length of a step as a share of ``threat.eps``; 0.25 is 2/255 at 8/255. None is 2.5
            / steps, as in the paper, so that any number of steps can cross the ball.
        loss: per-example loss on logits, (N, K), y -> (N,).
        start: ``uniform`` in the ball, ``gaussian`` = x + start_noise * N(0, 1) projected, or
            ``none`` = x itself.
        start_noise: standard deviation of the gaussian start, in pixel units.
        restarts: attempts. Only images not yet fooled are tried again; they keep the attempt of
            highest loss.
    Returns:
        x_adv (N, C, H, W) in the ball and in [0, 1], detached.
    Raises:
        UserError: if an option is not one of those above, or the model's output has no gradient.
    """
    _check(steps, rel_step, loss, start, start_noise, restarts)
    rel_step = REACH / steps if rel_step is None else rel_step
    x = x.detach()
    with frozen(model):
        x_adv = _climb(model, x, y, threat, steps, rel_step, loss, start, start_noise)
        if restarts == 1:
            return x_adv
        worst, fooled = _judge(model, x_adv, y, loss)
        for _ in range(restarts - 1):
            left = (~fooled).nonzero().squeeze(1)
            if len(left) == 0:
                break
            again = _climb(
                model, x[left], y[left], threat, steps, rel_step, loss, start, start_noise
            )
            value, fooled[left] = _judge(model, again, y[left], loss)
            better = fooled[left] | (value > worst[left])
            x_adv[left[better]], worst[left[better]] = again[better], value[better]
    return x_adv


def _climb(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    steps: int,
    rel_step: float,
    loss: Loss,
    start: str,
    start_noise: float,
) -> Tensor:
    """One restart: the last iterate."""
    if start == "uniform":
        x_adv = threat.sample(x, sharded_random)
    elif start == "gaussian":
        x_adv = threat.project(x + start_noise * sharded_random(torch.randn_like, x), x)
    else:
        x_adv = x.clone()
    for step in range(steps):
        close = (
            start == "gaussian" and step == 0
        )  # so close to x that the loss may have no slope in bf16
        with full_precision() if close else nullcontext():
            x_adv = ascend(
                model, x_adv, x, y, threat=threat, length=rel_step * threat.eps, loss=loss
            )
    return x_adv


@torch.no_grad()
def _judge(model: nn.Module, x_adv: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Loss (N,) and whether the label is lost (N,)."""
    logits = model(x_adv)
    label = y if y.dim() == 1 else y.argmax(1)
    return loss(logits, y), ~is_right(logits, label)


def _check(
    steps: int, rel_step: float | None, loss: Loss, start: str, start_noise: float, restarts: int
) -> None:
    if not callable(loss):
        raise UserError(
            f"pgd: loss={loss!r} is not a function; name one of advprune.losses, such as cross_entropy"
        )
    refuse_outside(
        pgd, steps=steps, rel_step=rel_step, start=start, start_noise=start_noise, restarts=restarts
    )
    if start == "none" and restarts > 1:
        raise UserError(
            f"pgd: start=none repeats the same attack restarts={restarts} times; use start=uniform"
        )
