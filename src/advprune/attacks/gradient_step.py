"""One gradient step of an attack: torch's autograd, or one compiled graph where training asks for it."""

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.frozen import effective_network
from advprune.losses import Loss
from advprune.runtime import compilation
from advprune.threat import Threat


def ascend(
    model: nn.Module,
    x_adv: Tensor,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    length: float,
    loss: Loss,
) -> Tensor:
    """``x_adv`` moved by ``length`` along the steepest ascent of ``loss``, and back into the ball around ``x``.

    Args:
        model: frozen, in eval mode.
        x_adv: images in the ball (N, C, H, W), without a graph.
        x, y: clean images and what the loss compares with.
        length: of the step, in pixel units.
    Returns:
        (N, C, H, W), without a graph.
    Raises:
        UserError: if the model's output has no gradient.
    """
    if compilation.wanted():
        with (
            effective_network(model),
            torch.no_grad(),
        ):  # weights that are made once must not be made inside of the graph
            step = compilation.compiled(_whole)(model, x_adv, x, y, threat, length, loss)
        return step.clone()  # memory of a CUDA graph is written anew by its next run
    x_adv = x_adv.requires_grad_(True)
    with torch.enable_grad():
        total = loss(
            model(x_adv), y
        ).sum()  # a sum: each image climbs alone, whatever the batch size
    if not total.requires_grad:
        raise UserError(
            "pgd: the output has no gradient (int8 model? inference mode?); use attack=square"
        )
    (grad,) = torch.autograd.grad(total, x_adv)
    return _moved(x_adv.detach(), grad, x, threat, length)


def _whole(
    model: nn.Module, x_adv: Tensor, x: Tensor, y: Tensor, threat: Threat, length: float, loss: Loss
) -> Tensor:
    """The same in terms that ``torch.compile`` can follow from pixels to pixels."""
    grad = torch.func.grad(lambda point: loss(model(point), y).sum())(x_adv)
    return _moved(x_adv, grad, x, threat, length)


def _moved(x_adv: Tensor, grad: Tensor, x: Tensor, threat: Threat, length: float) -> Tensor:
    return threat.project(x_adv + length * threat.steepest(grad), x)
