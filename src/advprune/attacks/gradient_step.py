"""What makes an attack's gradient steps fast, and an error where there is no gradient to follow."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.frozen import effective_network
from advprune.logits import Loss
from advprune.runtime import speed
from advprune.threat import Threat


class Step(Protocol):
    """One step of an attack from ``x_adv``, inside the ball of ``threat`` around ``x``."""

    def __call__(
        self,
        model: nn.Module,
        x_adv: Tensor,
        x: Tensor,
        y: Tensor,
        *,
        threat: Threat,
        length: float,
        loss: Loss,
    ) -> Tensor:
        """Return the next images (N, C, H, W), without a graph; ``length`` is in pixel units."""


def accelerated(step: Step) -> Step:
    """Return ``step`` as one compiled graph where training asks for it, and unchanged elsewhere.

    Args:
        step: a function of a module: it is compiled once, and reused for every later batch.
    """
    if not speed.compiles():
        return step
    graph = speed.compiled(step)

    def run_graph(
        model: nn.Module,
        x_adv: Tensor,
        x: Tensor,
        y: Tensor,
        *,
        threat: Threat,
        length: float,
        loss: Loss,
    ) -> Tensor:
        # Weights that are computed once per step must not be computed inside of the graph.
        with effective_network(model), torch.no_grad():
            x_adv = graph(model, x_adv, x, y, threat=threat, length=length, loss=loss)
        return x_adv.clone()  # memory of a CUDA graph is written anew by its next run

    return run_graph


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the gradient of a scalar ``function`` at ``x``, of the shape of ``x``.

    Raises:
        UserError: if the result does not depend on ``x`` in a way that torch can differentiate.
    """
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
