"""A quantized network with its other faces: what is judged, the float twin it was made from, the fake-quantized one."""

from torch import Tensor, nn


class Quantized(nn.Module):
    """Judged as ``judged``; attacks may craft on a face of it.

    Args:
        judged: the network whose answers count.
        float_twin: the float network that was quantized.
        fake_quant: the fake-quantized network, with straight-through gradients.
    """

    def __init__(self, judged: nn.Module, *, float_twin: nn.Module, fake_quant: nn.Module) -> None:
        super().__init__()
        self.judged = judged
        self.faces = nn.ModuleDict({"float_twin": float_twin, "fake_quant": fake_quant})

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) pixels in [0, 1] -> (N, K) logits."""
        return self.judged(x)
