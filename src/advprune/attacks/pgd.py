"""Projected gradient descent (Madry et al. 2018, https://arxiv.org/abs/1706.06083).

Returns the last iterate, as the paper does. Restarts differ from the paper in keeping the worst
point of each image. FGSM and PGD-n are YAMLs of this one function.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from advprune.attacks.fast.chain import lean_view
from advprune.distributed.sharding import sharded_random
from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.logits import Loss, cross_entropy, is_right
from advprune.ranges import Count, Length, Share, refuse_outside
from advprune.runtime.speed import accelerated, full_precision
from advprune.threat import Threat

#: Length of all steps together, in radii, where none is given (Madry et al., section 4).
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
    """Climb ``loss`` by gradient steps inside the ball around ``x``.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); attacked in eval mode and restored
            afterwards.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64, or targets (N, K) for a loss that takes them (``kl``).
        threat: the ball.
        steps: gradient steps per restart, at least 1.
        rel_step: length of a step as a share of ``threat.eps``; 0.25 is 2/255 at 8/255. None is
            2.5 / steps, as in the paper, so that any number of steps can cross the ball.
        loss: per-example loss to climb: logits (N, K) and ``y`` -> (N,).
        start: ``uniform`` in the ball; ``gaussian``, which is x + start_noise * N(0, 1) projected;
            or ``none``, which is x itself.
        start_noise: standard deviation of the gaussian start, in pixel units, in [0, 1].
        restarts: attempts, at least 1. Only images that are not yet fooled are tried again; they
            keep the attempt of highest loss.

    Returns:
        x_adv (N, C, H, W) in the ball and in [0, 1], detached.

    Raises:
        UserError: if an option is not one of those above, or the model's output has no gradient.
    """
    _check_loss(loss)
    refuse_outside(
        pgd, steps=steps, rel_step=rel_step, start=start, start_noise=start_noise, restarts=restarts
    )
    _check_restarts(start, restarts)
    length = (REACH / steps if rel_step is None else rel_step) * threat.eps
    step = accelerated(_step)

    def attempt(x: Tensor, y: Tensor) -> Tensor:
        x_adv = _starting_point(x, threat, start, start_noise)
        for i in range(steps):
            # A gaussian start is so close to x that the loss may have no slope in bf16.
            with full_precision(start == "gaussian" and i == 0):
                x_adv = step(seen, x_adv, x, y, threat=threat, length=length, loss=loss)
        return x_adv

    with frozen(model):
        seen = lean_view(model, x)
        x_adv = attempt(x.detach(), y)
        if restarts > 1:
            _restart(model, x_adv, x.detach(), y, attempt=attempt, loss=loss, times=restarts - 1)
    return x_adv


def _step(
    model: nn.Module,
    x_adv: Tensor,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    length: float,
    loss: Loss,
) -> Tensor:
    # The losses are summed, not averaged: each image climbs alone, whatever the batch size.
    grad = _gradient(lambda point: loss(model(point), y).sum(), x_adv)
    return threat.project(x_adv + length * threat.steepest(grad), x)


def _gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the gradient of a scalar ``function`` at ``x``, of the shape of ``x``."""
    if torch.compiler.is_compiling():  # torch.compile follows this form from pixels to pixels
        return torch.func.grad(function)(x)
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        value = function(x)
    if not value.requires_grad:
        raise UserError(
            "pgd: the output has no gradient (int8 model? inference mode?); use attack=square"
        )
    (slope,) = torch.autograd.grad(value, x)
    return slope


def _starting_point(x: Tensor, threat: Threat, start: str, noise: float) -> Tensor:
    if start == "uniform":
        return threat.sample(x, sharded_random)
    if start == "gaussian":
        return threat.project(x + noise * sharded_random(torch.randn_like, x), x)
    return x.clone()


def _restart(
    model: nn.Module,
    x_adv: Tensor,
    x: Tensor,
    y: Tensor,
    *,
    attempt: Callable[[Tensor, Tensor], Tensor],
    loss: Loss,
    times: int,
) -> None:
    """Attack again the images that are still right, and write the better points into ``x_adv``."""
    worst, fooled = _evaluate(model, x_adv, y, loss)
    for _ in range(times):
        left = (~fooled).nonzero().squeeze(1)
        if len(left) == 0:
            return
        candidates = attempt(x[left], y[left])
        value, fooled[left] = _evaluate(model, candidates, y[left], loss)
        better = fooled[left] | (value > worst[left])
        x_adv[left[better]], worst[left[better]] = candidates[better], value[better]


@torch.no_grad()
def _evaluate(model: nn.Module, x_adv: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Return the loss (N,) and whether the model is fooled (N,)."""
    logits = model(x_adv)
    label = y if y.dim() == 1 else y.argmax(1)
    return loss(logits, y), ~is_right(logits, label)


def _check_loss(loss: Loss) -> None:
    if not callable(loss):
        raise UserError(
            f"pgd: loss={loss!r} is not a function; "
            "name one of advprune.logits, such as cross_entropy"
        )


def _check_restarts(start: str, restarts: int) -> None:
    if start == "none" and restarts > 1:
        raise UserError(
            f"pgd: start=none repeats the same attack restarts={restarts} times; use start=uniform"
        )
