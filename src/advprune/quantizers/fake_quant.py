"""Fake quantization: float numbers that 8 bits can represent (Jacob et al. 2018).

https://arxiv.org/abs/1712.05877

Weights are symmetric per output channel, int8, zero at zero, so a pruned weight stays exactly zero.
Activations are affine per tensor, uint8. Gradients go straight through. As fbgemm and
https://arxiv.org/abs/2206.07406 do, an activation's calibrated range gets 127 of the 255 steps:
products of two then fit the 16 bits that older processors add them in. Differs from both in that a
value beyond its calibrated range may use the other steps, because that is what an int8 network in
onnxruntime does.
"""

from typing import Literal

import torch
from torch import Tensor, nn

WEIGHT_STEPS = 127.5  # from the largest weight to zero: torch's symmetric int8, [-128, 127]
TOP = 255  # of uint8
LARGEST = 2**30  # of a bias: half of int32, the rest for the products that are added to it


def rounded(x: Tensor) -> Tensor:
    """Round to the nearest whole number, halves to even; the gradient is that of ``x`` itself."""
    return x + (x.round() - x).detach()


def weight_scales(weight: Tensor) -> Tensor:
    """Return the step of each output channel (O,); 1 where a channel is all zero."""
    largest = weight.detach().flatten(1).abs().amax(1)
    return torch.where(largest > 0, largest / WEIGHT_STEPS, 1.0)


def fake_weight(weight: Tensor) -> Tensor:
    """Return the float values of the weight's int8, differentiable where it is not clamped."""
    scale = weight_scales(weight).view(-1, *[1] * (weight.dim() - 1))
    return rounded(weight / scale).clamp(-128, 127) * scale


def integer_weight(weight: Tensor) -> Tensor:
    """Return the weight as int8."""
    scale = weight_scales(weight).view(-1, *[1] * (weight.dim() - 1))
    return (weight.detach() / scale).round().clamp(-128, 127).to(torch.int8)


def whole_bias(bias: Tensor, step: Tensor) -> Tensor:
    """Return the bias in whole steps, as int32 holds it; clamped where steps are tiny."""
    return rounded(bias / step).clamp(-LARGEST, LARGEST)


def affine(low: Tensor, high: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Return the scale and zero point that spread ``levels`` steps over [low, high].

    The range is widened to hold zero; the zero point is a whole float.
    """
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / levels
    scale = torch.where(scale > 0, scale, 1.0)
    return scale, (-low / scale).round().clamp(0, levels)


def fake_activation(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Return the float values of the activation's uint8, differentiable where not clamped."""
    return ((rounded(x / scale) + zero).clamp(0, TOP) - zero) * scale


class ActivationQuant(nn.Module):
    """A layer that quantizes activations, by a measured range or by each image's own.

    A static range is measured while ``observing``.

    Args:
        levels: steps that the range gets, up to 255.
        ranges: ``static`` or ``dynamic``.
    """

    low: Tensor
    high: Tensor

    def __init__(self, *, levels: int, ranges: Literal["static", "dynamic"]) -> None:
        super().__init__()
        self.levels, self.ranges, self.observing = levels, ranges, False
        if ranges == "static":
            self.register_buffer("low", torch.zeros(()))
            self.register_buffer("high", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Quantize activations: (N, …) -> (N, …)."""
        if self.ranges == "dynamic":
            flat = x.detach().flatten(1)
            scale, zero = affine(flat.amin(1), flat.amax(1), self.levels)
            shape = (-1, *[1] * (x.dim() - 1))
            return fake_activation(x, scale.view(shape), zero.view(shape))
        if self.observing:
            self.low.copy_(torch.minimum(self.low, x.detach().amin()))
            self.high.copy_(torch.maximum(self.high, x.detach().amax()))
            return x
        return fake_activation(x, *self.numbers())

    def numbers(self) -> tuple[Tensor, Tensor]:
        """Return scale and zero point of a static range."""
        return affine(self.low, self.high, self.levels)


class QuantConv2d(nn.Conv2d):
    """A convolution that uses its weight as int8 and its bias as int32."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve as ``nn.Conv2d`` does."""
        return self._conv_forward(x, fake_weight(self.weight), _fake_bias(self))


class QuantLinear(nn.Linear):
    """A linear layer that uses its weight as int8 and its bias as int32."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply as ``nn.Linear`` does."""
        return nn.functional.linear(x, fake_weight(self.weight), _fake_bias(self))


def set_input_quantizer(layer: QuantConv2d | QuantLinear, quantizer: ActivationQuant) -> None:
    """Tell a layer which quantizer comes before it: its step is part of the bias's.

    The quantizer does not become a submodule of the layer.
    """
    layer.__dict__["_before"] = [quantizer]


def _fake_bias(layer: QuantConv2d | QuantLinear) -> Tensor | None:
    """Return the float values of the bias's int32.

    Behind a dynamic range it stays float, as int8 networks add it in float there.
    """
    quantizer: ActivationQuant = layer.__dict__["_before"][0]
    if layer.bias is None or quantizer.ranges == "dynamic" or quantizer.observing:
        return layer.bias
    step = weight_scales(layer.weight) * quantizer.numbers()[0]
    return whole_bias(layer.bias, step) * step
