"""Run a chain of convolutions, ReLUs and linear layers, and its gradient, without autograd.

A small network spends as much time in autograd and in the gradient of its first convolution as in
its arithmetic. Here ReLUs work in place, images stay channels last, and the gradient of pixels is
all that is computed. ``chain_of.py`` leaves out channels that do not depend on the pixels.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The largest layer, as entries of its matrix, that is one product with it. A network of 24, 48 and
#: 48 filters has its first convolution below it, and at a ratio of 0.99 all of them.
MATRIX = 1 << 17


class Layer(Protocol):
    """A step of the chain, on images (N, C, H, W) or on their values (N, H * W * C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output; ``x`` may be changed."""

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Return the gradient of the input ``x`` from that of the output ``out``."""


class Convolution:
    """A convolution, as wide as those channels are that depend on the pixels.

    Args:
        weight: (O, C, K, K).
        offset: what is added to the outputs, (1, O, H, W).
        stride: in both directions.
        padding: of zeros, on all sides.
        side: height and width of its input.
    """

    def __init__(
        self,
        weight: Tensor,
        offset: Tensor,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        side: torch.Size,
    ) -> None:
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.stride, self.padding, self.side = stride, padding, side
        everywhere = offset[0, :, 0, 0]
        self.varies = bool((offset != everywhere.view(-1, 1, 1)).any())
        self.offset = (
            offset.contiguous(memory_format=torch.channels_last) if self.varies else everywhere
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        bias = None if self.varies else self.offset
        out = F.conv2d(self._image(x), self.weight, bias, self.stride, self.padding)
        return out.add_(self.offset) if self.varies else out

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Convolve back."""
        image, given = self._image(x), (self.stride, self.padding, [1, 1], False, [0, 0], 1)
        wanted = [True, False, False]
        pulled: Tensor = torch.ops.aten.convolution_backward(
            grad, image, self.weight, None, *given, wanted
        )[0]
        return pulled if x.dim() == 4 else values(pulled)

    def _image(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            return x
        return x.view(len(x), *self.side, -1).permute(0, 3, 1, 2)


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
    """A linear layer, or a convolution written out as a matrix.

    Args:
        weight: (O, I), of the values of an image, channels last.
        offset: (O,).
    """

    def __init__(self, weight: Tensor, offset: Tensor) -> None:
        self.weight, self.offset = weight, offset

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return F.linear(values(x), self.weight, self.offset)

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Multiply back."""
        flat = grad @ self.weight
        if x.dim() == 2:
            return flat
        return flat.view(len(x), *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)


class Chain(nn.Module):
    """The layers in a row, from pixels (N, C, H, W) in [0, 1] to logits (N, K).

    Args:
        layers: in the order in which they run.
    """

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K), differentiable in the pixels alone."""
        logits: Tensor = _Pulled.apply(x, self)
        return logits

    def record(self, x: Tensor) -> list[Tensor]:
        """Return the pixels and each layer's output, the logits last."""
        seen = [x.contiguous(memory_format=torch.channels_last)]
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


class _Pulled(torch.autograd.Function):
    """Let autograd see a whole chain as one operation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, chain: Chain) -> Tensor:
        *seen, logits = chain.record(x)
        ctx.chain, ctx.seen = chain, seen  # without the logits, which hold this context
        return logits

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # the last layer is linear: its gradient reads the shape of its output alone
        return ctx.chain.pull([*ctx.seen, grads[0]], grads[0]), None


def values(x: Tensor) -> Tensor:
    """Return images (N, C, H, W) as their values (N, H * W * C), channels last."""
    return x.permute(0, 2, 3, 1).flatten(1) if x.dim() == 4 else x
