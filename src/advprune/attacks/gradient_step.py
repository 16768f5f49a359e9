"""What makes an attack's gradient steps fast, and an error where there is no gradient to follow."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from advprune.attacks.fast.chain_of import NoChainError, chain_of
from advprune.errors import UserError
from advprune.frozen import effective_network
from advprune.logits import Loss
from advprune.runtime import speed
from advprune.threat import Threat

#: Share of zero weights from which on an attack sees a chain. Fewer zeros leave few channels out:
#: docs/performance.md has what it gives at which ratio. Dense networks keep their bits.
SPARSE = 7 / 8


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


def lean_view(model: nn.Module, x: Tensor) -> nn.Module:
    """Return what computes the logits of ``model`` faster while its weights do not change.

    That is a chain without the channels that do not depend on the pixels (``fast/chain_of.py``),
    where ``model`` is an ``nn.Sequential`` that such a chain can be, pruned to ``SPARSE`` or seen
    through such masks, on a processor and in fp32. Any other network is returned itself, and so
    are one that is compiled and one whose layers somebody watches.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        x: images, of which only shape, type and device are read.
    """
    if x.is_cuda or speed.compiles() or not len(x) or any(map(_does_more, model.modules())):
        return model
    with effective_network(model) as net:
        if not isinstance(net, nn.Sequential) or _share_of_zeros(net) < SPARSE:
            return model
        try:
            return chain_of([net], x)
        except NoChainError:
            return model


def _share_of_zeros(net: nn.Module) -> float:
    """Return which share of the weights is zero, biases and their like left out."""
    weights = [weight for weight in net.parameters() if weight.dim() > 1]
    kept = sum(int(weight.count_nonzero()) for weight in weights)
    return 1 - kept / max(sum(weight.numel() for weight in weights), 1)


def _does_more(module: nn.Module) -> bool:
    """Return whether calling a module does more than its class says: hooks, bf16."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    hooks_back = (module._backward_hooks, module._backward_pre_hooks)
    replaced = "forward" in module.__dict__ or isinstance(module, speed.Mixed)
    return replaced or any(hooks) or any(hooks_back)


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
