"""Bound the operations that are not affine: ReLU and max pooling."""

from collections.abc import Callable

import torch
from torch import Tensor

from advprune.bounds.boxes import TINY, Interval, dot
from advprune.bounds.fused import Rectified
from advprune.bounds.ops import Back, Op, Slope


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
