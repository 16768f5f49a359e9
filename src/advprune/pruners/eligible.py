"""Say which parameters a pruner may remove."""

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
    """Add an all-True mask for each prunable weight that has none, in the model's order."""
    alone = {
        n: torch.ones_like(p, dtype=torch.bool)
        for n, p in prunable(model).items()
        if n not in masks
    }
    names = [name for name, _ in model.named_parameters() if name in masks or name in alone]
    return {name: masks[name] if name in masks else alone[name] for name in names}
