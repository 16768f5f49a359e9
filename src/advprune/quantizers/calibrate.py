"""Measure the ranges of a fake-quantized network's activations."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.quantizers.fake_quant import ActivationQuant


@torch.no_grad()
def calibrate(net: nn.Module, batches: Iterable[Tensor]) -> int:
    """Measure the static ranges on images (N, C, H, W).

    Returns:
        How many quantizers there are.

    Raises:
        UserError: if no quantizer saw anything but zeros, so that nothing would be quantized.
    """
    quantizers = [m for m in net.modules() if isinstance(m, ActivationQuant)]
    observers = [m for m in quantizers if m.ranges == "static"]
    for module in observers:
        module.observing = True
    for x in batches if observers else ():
        net(x)
    for module in observers:
        module.observing = False
    dead = sum(bool(module.low == module.high) for module in observers)
    if not quantizers or (observers and dead == len(observers)):
        raise UserError("quantizer: the calibration images reached no quantizer; give more images")
    return len(quantizers)
