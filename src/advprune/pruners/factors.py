"""Two factors of a weight, how they compose it, and what they start from (Li et al. 2023, AAAI).

``keep`` leaves the weights what they are: one factor is the weight, the other one neutral. It is
not split into two roots, for a product of factors that are equally large never changes its sign:
u^2 - v^2 is conserved, so both reach zero together and stay there. ``kaiming`` draws both factors
as the authors do; their products are so small that a network needs normalisation to train.
``scaled`` draws them in the same way and then scales both, so that the products spread as the
weights did.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Through = Literal["product", "channel"]
Init = Literal["keep", "scaled", "kaiming"]


def product(factor: Tensor, weight: Tensor) -> Tensor:
    """Return U * V, entry by entry."""
    return factor * weight


def channel(factor: Tensor, weight: Tensor) -> Tensor:
    """Return A V: each filter is a mix of filters, A (O, O)."""
    return (factor @ weight.flatten(1)).view_as(weight)


COMPOSE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"product": product, "channel": channel}


def neutral(through: Through, weight: Tensor) -> Tensor:
    """Return the factor with which a weight composes itself: ones, or the identity."""
    if through == "product":
        return torch.ones_like(weight)
    return torch.eye(len(weight), dtype=weight.dtype, device=weight.device)


def redraw(
    through: Through, factor: Tensor, weight: Tensor, drawn: torch.Generator, *, scaled: bool
) -> None:
    """Draw both factors as torch draws the weights of a new layer, in place.

    Args:
        through: how they compose a weight.
        factor: U or A.
        weight: V.
        drawn: the generator.
        scaled: whether what they compose has the root mean square that the weight had.
    """
    before = weight.square().mean().sqrt()
    for values in (weight, factor):
        values.copy_(_kaiming(values, drawn))
    if scaled:
        after = COMPOSE[through](factor, weight).square().mean().sqrt()
        for values in (weight, factor):
            values.mul_((before / after).sqrt())


def _kaiming(like: Tensor, drawn: torch.Generator) -> Tensor:
    values = torch.empty(like.shape, dtype=like.dtype)
    return nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=drawn)
