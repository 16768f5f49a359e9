"""The operations that bounds know: intervals pass them forward, linear functions backward.

A new operation is a class here and a line in ``layers.py`` (a layer) or ``graph.py`` (a function).
``interval`` must contain every value the operation takes on its inputs' regions; ``backward`` must
turn a linear function of the output into one of the inputs that is nowhere larger on them.
"""

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.bounds.boxes import TINY, Interval, dot
from advprune.bounds.fused import Rectified

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
        ball = (
            None
            if box.ball is None
            else (_scaled(box.ball[0], scale, shift), _scaled(box.ball[1], abs(scale), 0.0))
        )
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
        ball = (
            (self.function(box.ball[0]), self.function(box.ball[1]))
            if box.ball and self.moves
            else None
        )
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


class Relu(Op):
    """max(x, 0); where the sign is undecided, between a line below and the chord above.

    The line below has slope 1 if that leaves less area than 0 (``adaptive``, CROWN), or the chord's
    (``parallel``, the symbolic intervals of MixTrain). See Zhang et al. 2018,
    https://arxiv.org/abs/1811.00866.
    """

    affine = False

    def interval(self, *inputs: Interval) -> Interval:
        """Apply the function to both ends, for it is monotone."""
        (box,) = inputs
        return Interval(*Rectified.apply(box.centre, box.radius))

    def backward(self, coef: Tensor, inputs: tuple[Interval, ...], slope: Slope) -> Back:
        """Use the line below where the coefficient is positive, the chord where it is negative."""
        (box,) = inputs
        below, above = box.lower.clamp_max(0), box.upper.clamp_min(0)
        chord = above / (above - below).clamp_min(TINY)  # 0 where off, 1 where on
        line = chord if slope == "parallel" else (above > -below).to(coef.dtype)
        negative = coef.clamp_max(0)
        constant = dot(negative, -chord * below)
        # The line for all, plus the chord's excess for the negative: faster than a choice by sign.
        extra = (chord - line).unsqueeze(1)
        return (torch.addcmul(coef * line.unsqueeze(1), negative, extra),), constant


class MaxPool(Op):
    """The largest value of a window.

    Below it lies its best candidate; above it lies that candidate if it always wins, or a constant.

    Args:
        function: values -> (largest, their flat places in each map), as torch returns with
            ``return_indices``.
        overlap: whether two windows may share a value.
    """

    affine = False

    def __init__(
        self, function: Callable[[Tensor], tuple[Tensor, Tensor]], *, overlap: bool
    ) -> None:
        self.function, self.overlap = function, overlap

    def interval(self, *inputs: Interval) -> Interval:
        """Apply the function to both ends, for it is monotone."""
        (box,) = inputs
        return Interval.between(self.function(box.lower)[0], self.function(box.upper)[0])

    def backward(self, coef: Tensor, inputs: tuple[Interval, ...], slope: Slope) -> Back:
        """Pass coefficients to the candidate's place; those of overlapping windows add up."""
        (box,) = inputs
        best, place = self.function(box.lower)
        flat, top = place.flatten(2), self.function(box.upper)[0]
        rivals = top if self.overlap else self._rivals(box.upper, flat)
        wins = best >= rivals
        kept = torch.where((coef > 0) | wins.unsqueeze(1), coef, 0)
        shape = (*coef.shape[:3], *box.lower.shape[2:])
        where = flat.unsqueeze(1).expand(*coef.shape[:3], -1)
        out = torch.zeros(
            *coef.shape[:3], box.lower.shape[2:].numel(), dtype=coef.dtype, device=coef.device
        )
        constant = ((coef - kept) * top.unsqueeze(1)).flatten(2).sum(2)
        return (out.scatter_add(3, where, kept.flatten(3)).view(shape),), constant

    def _rivals(self, upper: Tensor, candidates: Tensor) -> Tensor:
        """Return the largest upper end in each window other than its candidate's.

        If windows overlapped, it would be too small.
        """
        return self.function(upper.flatten(2).scatter(2, candidates, -torch.inf).view_as(upper))[0]
