"""HYDRA: masks by importance scores trained on the robust loss (Sehwag et al. 2020).

https://arxiv.org/abs/2002.10509

What differs from the authors' code: one mask per optimizer step instead of a sort of every layer in
every forward; exact counts with stable ties instead of truncated floats; any scope instead of the
same share in each layer.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import Masks, Scores, prunable
from advprune.pruners import scopes

Init = Literal["scaled", "kaiming", "magnitude"]


def initial_scores(model: nn.Module, *, init: Init, seed: int) -> Scores:
    """Return the scores the search starts from; their absolute value is the importance.

    Args:
        model: the dense network.
        init: ``scaled`` is the paper's, sqrt(6 / fan_in) * w / max|w| per layer, so the first mask
            is that of magnitude pruning; ``magnitude`` is w itself; ``kaiming`` is random, as in
            hidden networks.
        seed: of ``kaiming``; the others draw nothing.

    Returns:
        One signed tensor per prunable weight, of its shape and on its device. The model is not
        touched.

    Raises:
        UserError: for an unknown init, or a layer of zeros, which cannot be scaled.
    """
    weights = {name: weight.detach() for name, weight in prunable(model).items()}
    if init == "scaled":
        return {name: _scaled(name, weight) for name, weight in weights.items()}
    if init == "magnitude":
        return {name: weight.clone() for name, weight in weights.items()}
    if init == "kaiming":
        generator = torch.Generator().manual_seed(seed)
        return {name: _kaiming(weight, generator) for name, weight in weights.items()}
    raise UserError(
        f"init={init!r} is not one of scaled, kaiming, magnitude; write for example "
        "pruner.search.init=scaled"
    )


def _scaled(name: str, weight: Tensor) -> Tensor:
    largest = weight.abs().max()
    if largest == 0:
        raise UserError(
            f"every weight of {name} is zero, so its scores cannot be scaled; use init=kaiming"
        )
    fan_in = weight[0].numel()
    return math.sqrt(6 / fan_in) * weight / largest


def _kaiming(weight: Tensor, generator: torch.Generator) -> Tensor:
    scores = torch.empty(weight.shape, dtype=weight.dtype)
    return nn.init.kaiming_uniform_(scores, a=math.sqrt(5), generator=generator).to(weight.device)


def masks_of(
    scores: Scores, ratio: float, scope: scopes.Scope, within: Masks | None = None
) -> Masks:
    """Return the masks of scores: the largest |s| stay, as many as ``scope`` keeps at ``ratio``."""
    return scopes.spend(
        {name: s.detach().abs() for name, s in scores.items()}, ratio, scope=scope, within=within
    )


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scores)
        return weight * mask.to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        weight, scores = ctx.saved_tensors
        return None, grads[0] * weight * scores.sign(), None


def straight_through(weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return w * mask, with the gradient of w * |s| for the scores and none for the weight.

    The choice of the largest passes gradients as the identity does, so dL/ds = w * dL/dw_eff *
    sign(s): pruned entries learn too and can come back, all but a score of exactly zero.

    Args:
        weight: any shape.
        scores: of the weight's shape, on its device.
        mask: bool, of the weight's shape, on its device.
    """
    return _StraightThrough.apply(weight, scores, mask)
