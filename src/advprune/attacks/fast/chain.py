"""Run a chain of convolutions, ReLUs and linear layers, and its gradient, without autograd.

A small network spends as much time in autograd and in the gradient of its first convolution as in
its arithmetic. Here ReLUs work in place, images stay channels last up to the linear layer, and the
gradient of pixels is all that is computed. Channels that no image can switch on are left out.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The largest first convolution, as entries of its matrix, whose gradient is one product with it.
#: On 8 x 8 pixels that takes 2 us an image, the convolution's own gradient 5.5.
MATRIX = 1 << 17


class Layer(Protocol):
    """A step of the chain."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output; ``x`` may be changed."""

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Return the gradient of the input ``x`` from that of the output ``out``."""


class Scale:
    """Subtract ``mean`` and divide by ``std``, (C, 1, 1) each."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Return the pixels as the network wants them."""
        return (x - self.mean) / self.std

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Divide by the standard deviation."""
        return grad / self.std


class Convolution:
    """A convolution with weights (O, C, K, K) and a bias (O,)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d) -> None:
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias, self.matrix = bias, weight.new_empty(0)
        self.stride, self.padding = list(conv.stride), [int(side) for side in conv.padding]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Convolve back, or multiply with the whole matrix where it is small."""
        if len(self.matrix):
            return (grad.permute(0, 2, 3, 1).flatten(1) @ self.matrix).view(x.shape)
        given = (self.stride, self.padding, [1, 1], False, [0, 0], 1, [True, False, False])
        pulled: Tensor = torch.ops.aten.convolution_backward(grad, x, self.weight, None, *given)[0]
        return pulled

    def keep_filters(self, live: Tensor) -> None:
        """Drop the filters where ``live`` (O,) is false."""
        self.weight = self.weight[live].contiguous(memory_format=torch.channels_last)
        self.bias = None if self.bias is None else self.bias[live]

    def keep_inputs(self, live: Tensor) -> None:
        """Drop the input channels where ``live`` (C,) is false."""
        self.weight = self.weight[:, live].contiguous(memory_format=torch.channels_last)

    def write_out(self, x: Tensor) -> None:
        """Write the convolution out as a matrix, if that is small for images such as ``x``."""
        size = x[0].numel()
        plain = F.conv2d(x[:1], self.weight, None, self.stride, self.padding)
        if size * plain.numel() <= MATRIX:
            each = torch.eye(size, dtype=x.dtype, device=x.device).view(size, *x.shape[1:])
            rows = F.conv2d(each, self.weight, None, self.stride, self.padding)
            self.matrix = rows.permute(0, 2, 3, 1).flatten(1).T.contiguous()


class Relu:
    """ReLU, in place."""

    def forward(self, x: Tensor) -> Tensor:
        """Set negative values to zero."""
        return x.relu_()

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Let through where the output is positive."""
        passed: Tensor = torch.ops.aten.threshold_backward(grad, out, 0)
        return passed


class Dense:
    """A linear layer with weights (O, I); an image goes in channels last."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def keep_inputs(self, live: Tensor) -> None:
        """Drop the channels of an image where ``live`` (C,) is false."""
        self.weight = self.weight.view(len(self.weight), -1, len(live))[..., live].flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        flat = x.permute(0, 2, 3, 1).flatten(1) if x.dim() == 4 else x
        return F.linear(flat, self.weight, self.bias)

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Multiply back."""
        flat = grad @ self.weight
        if x.dim() == 2:
            return flat
        return flat.view(len(x), *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)


class Chain(nn.Module):
    """The layers in a row.

    Args:
        layers: from pixels (N, C, H, W) to logits (N, K).
    """

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K)."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def record(self, x: Tensor) -> list[Tensor]:
        """Return the pixels and each layer's output, the logits last."""
        seen = [x]
        for layer in self.layers:
            seen.append(layer.forward(seen[-1]))
        return seen

    def pull(self, seen: list[Tensor], grad: Tensor) -> Tensor:
        """Return the gradient of the pixels from that of the logits (N, K).

        Args:
            seen: what ``record`` returned.
            grad: (N, K).
        """
        for layer, x, out in zip(self.layers[::-1], seen[-2::-1], seen[:0:-1], strict=True):
            grad = layer.pull(grad, x, out)
        return grad
