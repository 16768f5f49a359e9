"""The operations that bounds know: intervals pass them forward, linear functions backward.

A new operation is a class here and a line in ``layers.py`` (a layer) or ``functions.py`` (a call).
``interval`` must contain every value the operation takes on its inputs' regions; ``backward`` must
turn a linear function of the output into one of the inputs that is nowhere larger on them.
"""

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.bounds.boxes import TINY, Interval

Slope = Literal["adaptive", "parallel"]
#: One coefficient tensor (N, S, *input) per input, and a constant (N, S) or 0.
Back = tuple[tuple[Tensor, ...], Tensor | float]


class Op:
    """An operation of a network.

    Attributes:
        affine: whether it is affine, so that linear functions pass it backward exactly.
    """

    affine = True

    def interval(self, *inputs: Interval) -> Interval:
        """Return the region of the output from the regions of the inputs."""
        raise NotImplementedError

    def backward(self, coef: Tensor, inputs: tuple[Interval, ...], slope: Slope) -> Back:
        """Return lower bounds of linear functions of the output, as functions of the inputs.

        Args:
            coef: coefficients of S functions per example, (N, S, *output).
            inputs: the regions of the inputs.
            slope: how the line below an undecided ReLU is chosen.

        Returns:
            Coefficients (N, S, *input) for each input, and a constant: their sum is at most
            ``coef * output``.
        """
        raise NotImplementedError


class Weighted(Op):
    """A convolution or a linear layer, with the weights that its module has during the call.

    Args:
        module: an ``nn.Conv2d`` with zero padding, or an ``nn.Linear``.
    """

    def __init__(self, module: nn.Conv2d | nn.Linear) -> None:
        self.module = module

    def _apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        m = self.module
        if isinstance(m, nn.Linear):
            return F.linear(x, weight, bias)
        return F.conv2d(x, weight, bias, m.stride, m.padding, m.dilation, m.groups)

    def interval(self, *inputs: Interval) -> Interval:
        """Apply the weights to the centre, and their absolute values to the radius."""
        (box,), weight = inputs, self.module.weight
        mid = self._apply(box.centre, weight, self.module.bias)
        spread = self._apply(box.radius, weight.abs(), None)
        if box.ball is None:
            return Interval(mid, spread)
        middle = self._apply(box.ball[0], weight, self.module.bias)
        length = self._apply(box.ball[1].square(), weight.square(), None).clamp_min(TINY).sqrt()
        return Interval.between(
            torch.maximum(mid - spread, middle - length),
            torch.minimum(mid + spread, middle + length),
        )

    def backward(self, coef: Tensor, inputs: tuple[Interval, ...], slope: Slope) -> Back:
        """Apply the transposed layer."""
        m, weight, bias = self.module, self.module.weight, self.module.bias
        if isinstance(m, nn.Linear):
            return (coef @ weight,), 0.0 if bias is None else coef @ bias
        shape, padding = inputs[0].lower.shape, cast("tuple[int, ...]", m.padding)
        extra = [
            shape[-2 + i]
            - (
                (coef.shape[-2 + i] - 1) * m.stride[i]
                - 2 * padding[i]
                + m.dilation[i] * (m.kernel_size[i] - 1)
                + 1
            )
            for i in (0, 1)
        ]
        flat = coef.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        flat = F.conv_transpose2d(
            flat, weight, None, m.stride, padding, extra, m.groups, m.dilation
        )
        constant = 0.0 if bias is None else coef.sum((-2, -1)) @ bias
        return (flat.view(*coef.shape[:2], *shape[1:]),), constant


class Elementwise(Op):
    """``scale * x + shift``: normalisation, BatchNorm in eval mode, arithmetic with numbers.

    Args:
        read: (a tensor of the input's shape) -> (scale, shift), called whenever they are needed.
    """

    def __init__(self, read: Callable[[Tensor], tuple[Any, Any]]) -> None:
        self.read = read

    def interval(self, *inputs: Interval) -> Interval:
        """Scale and shift; a ball stays one."""
        (box,) = inputs
        scale, shift = self.read(box.lower)
        ball = box.ball
        if ball is not None:
            ball = _scaled(ball[0], scale, shift), _scaled(ball[1], abs(scale), 0.0)
        radius = _scaled(box.radius, abs(scale), 0.0)
        return Interval(_scaled(box.centre, scale, shift), radius, ball)

    def backward(self, coef: Tensor, inputs: tuple[Interval, ...], slope: Slope) -> Back:
        """Apply the same scale, and turn the shift into a constant."""
        scale, shift = self.read(inputs[0].lower)
        return (coef * scale,), (coef * shift).flatten(2).sum(2)


def _scaled(x: Tensor, scale: Any, shift: Any) -> Tensor:
    """Return ``x * scale + shift``, without the work where scale is the number 1 or shift 0."""
    x = x if isinstance(scale, float) and scale == 1 else x * scale
    return x if isinstance(shift, float) and shift == 0 else x + shift


class NonNegative(Op):
    """A linear map with weights >= 0: average pooling, flattening, zero padding, a slice, a mean.

    Args:
        function: (N, *input) -> (N, *output), each example by itself.
        moves: whether it only moves values to other places, so that a ball stays one.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], *, moves: bool = False) -> None:
        self.function, self.moves = function, moves

    def interval(self, *inputs: Interval) -> Interval:
        """Apply the map to the centre and, as no weight is negative, to the radius."""
        (box,) = inputs
        ball = box.ball if self.moves else None
        if ball is not None:
            ball = self.function(ball[0]), self.function(ball[1])
        return Interval(self.function(box.centre), self.function(box.radius), ball)

    def backward(self, coef: Tensor, inputs: tuple[Interval, ...], slope: Slope) -> Back:
        """Apply the transposed map, by differentiating it."""
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            shape = (coef.shape[0] * coef.shape[1], *inputs[0].lower.shape[1:])
            at = torch.zeros(shape, dtype=coef.dtype, device=coef.device, requires_grad=True)
            (flat,) = torch.autograd.grad(
                self.function(at), at, coef.flatten(0, 1), create_graph=graph
            )
        return (flat.view(*coef.shape[:2], *shape[1:]),), 0.0


class Add(Op):
    """The sum of two values of one shape: a residual connection."""

    def interval(self, *inputs: Interval) -> Interval:
        """Add centres, and add radii."""
        first, second = inputs
        return Interval(first.centre + second.centre, first.radius + second.radius)

    def backward(self, coef: Tensor, inputs: tuple[Interval, ...], slope: Slope) -> Back:
        """Pass the coefficients to both inputs."""
        return (coef, coef), 0.0
