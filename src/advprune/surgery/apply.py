"""Make masks real: the pruned weights become zeros in the network itself."""

import torch
from torch import nn

from advprune.masks import Masks, check, matched


def apply(model: nn.Module, masks: Masks) -> nn.Module:
    """Zero the masked weights in place, then check that they are.

    Nothing is changed unless every mask fits. Mode, gradients and flags stay as they are.

    Args:
        model: a network.
        masks: one per prunable weight; they may lie on another device.

    Returns:
        The same model.

    Raises:
        UserError: naming the tensor, if masks and model do not fit.
    """
    with torch.no_grad():
        for weight, mask in matched(model, masks).values():
            weight.masked_fill_(~mask, 0)
    check(model, masks)
    return model
