"""Which parameters a pruner may remove, and how a whole network's compression is spent on them."""

from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from advprune.errors import UserError
from advprune.masks import Masks, prunable

#: model -> {parameter name: parameter} that may be pruned, in the model's order.
Eligible = Callable[[nn.Module], dict[str, nn.Parameter]]


def eligible(
    model: nn.Module, *, biases: bool = False, classifier: bool = True
) -> dict[str, nn.Parameter]:
    """Return the prunable weights, narrowed or widened as greedy adversarial pruning does.

    Args:
        model: a network of convolutions and linear layers.
        biases: also the biases of convolutions and linear layers; never those of normalisation.
        classifier: also the last linear layer, which gives the logits.

    Raises:
        UserError: if ``classifier`` is to be left alone and there is no linear layer.
    """
    weights = prunable(model)
    owners = {id(p): name for name, p in weights.items()}
    chosen: dict[str, nn.Parameter] = {}
    last = ""
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear) or id(module.weight) not in owners:
            continue
        weight = owners[id(module.weight)]
        chosen[weight] = cast(nn.Parameter, module.weight)
        if biases and module.bias is not None:
            chosen[f"{name}.bias".lstrip(".")] = cast(nn.Parameter, module.bias)
        last = weight if isinstance(module, nn.Linear) else last
    if classifier:
        return chosen
    if not last:
        raise UserError(
            "pruner.classifier=false leaves the last linear layer alone, and "
            f"{type(model).__name__} has none; write pruner.classifier=null"
        )
    left = {last, last.removesuffix("weight") + "bias"}
    return {name: parameter for name, parameter in chosen.items() if name not in left}


def completed(model: nn.Module, masks: Masks) -> Masks:
    """Add an all-True mask for each prunable weight that has none, in the model's order.

    So that a weight that was left alone is visible.
    """
    alone = {
        n: torch.ones_like(p, dtype=torch.bool)
        for n, p in prunable(model).items()
        if n not in masks
    }
    names = [name for name, _ in model.named_parameters() if name in masks or name in alone]
    return {name: masks[name] if name in masks else alone[name] for name in names}


def keep_fraction(total: int, removable: int, compression: float) -> float:
    """Return the share of removable parameters kept when the network shrinks by ``compression``.

    f = (T / c - N) / P of greedy adversarial pruning (https://arxiv.org/abs/2206.07406): all
    parameters count, those that cannot be removed too.

    Args:
        total: T, all parameters of the network.
        removable: P of them; N = T - P are left alone.
        compression: c, original : remaining.

    Raises:
        UserError: if c is below 1 or leaves nothing; the message names the largest possible.
    """
    alone = total - removable
    if not compression >= 1:
        raise UserError(
            f"compression={compression:g} is not possible: it is original : remaining, at least 1"
        )
    share = (total / compression - alone) / removable
    if share <= 0:
        largest = f"below {int(100 * total / alone) / 100:g}" if alone else f"{total:g} at most"
        raise UserError(
            f"compression={compression:g} is not possible: {alone} of the network's {total} "
            f"parameters are left alone; give compression {largest}"
        )
    return share


def ratio_for(model: nn.Module, chosen: dict[str, nn.Parameter], compression: float) -> float:
    """Return the share of ``chosen`` to remove for a ``compression`` of the whole network.

    Raises:
        UserError: as ``keep_fraction``.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    removable = sum(parameter.numel() for parameter in chosen.values())
    return 1 - keep_fraction(total, removable, compression)
