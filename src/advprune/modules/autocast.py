"""Train in bf16: convolutions and products in bf16, logits and all losses in fp32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast

import torch
from torch import Tensor, nn

from advprune.frozen import effective_network
from advprune.runtime import full_precision

Precision = Literal["fp32", "bf16"]


class Mixed(nn.Module):
    """Run ``net`` under autocast; an objective or its attack gets fp32 logits to compute with.

    Only a forward is in bf16, and not inside ``full_precision()``. Bounds read the network's
    weights and not its forward, so certificates stay fp32. bf16 has the range of fp32, so no loss
    is scaled.

    Args:
        net: pixels (N, C, H, W) float32 in [0, 1] -> logits (N, K). It stays the caller's, and
            trains in fp32.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.training = net.training

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K), float32."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=not full_precision.wanted()):
            logits = self.net(x)
        return cast(Tensor, logits.float())

    @contextmanager
    def pruned(self) -> Iterator[nn.Module]:
        """Inside, use the network whose layers hold the effective weights; see ``Subnet``."""
        with effective_network(self.net) as net:
            yield net


def autocast(net: nn.Module, precision: Precision) -> nn.Module:
    """Return what a training step calls: ``net`` itself in fp32, else ``net`` under autocast."""
    return Mixed(net) if precision == "bf16" else net
