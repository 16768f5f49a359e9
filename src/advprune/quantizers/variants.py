"""A quantized network with its variants: the float network, and the fake-quantized one."""

from torch import Tensor, nn


class Quantized(nn.Module):
    """A network that answers as ``evaluated`` does; attacks may use a variant of it.

    Args:
        evaluated: the network whose answers count.
        float_twin: the float network that was quantized.
        fake_quant: the fake-quantized network, with straight-through gradients.
    """

    def __init__(
        self, evaluated: nn.Module, *, float_twin: nn.Module, fake_quant: nn.Module
    ) -> None:
        super().__init__()
        self.evaluated = evaluated
        self.variants = nn.ModuleDict({"float_twin": float_twin, "fake_quant": fake_quant})

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) of pixels (N, C, H, W) in [0, 1]."""
        return self.evaluated(x)
