"""Decide most of LAMP's ranking by bounds, without sorting: scores are counted in bins by size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

#: Leading bits of a float32 make its bin: sign, exponent and seven of the mantissa.
SHIFT = 16
#: By how much rounding may make a bound wrong, relative; far more than it does.
SLACK = 1e-9
#: In place of a sum of squares that is zero.
TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Undecided:
    """Say which scores of a tensor have to be ranked: those in [low, high).

    Attributes:
        low: the smallest score; what is below it goes.
        high: a bound of the largest; what is not below it stays.
        kept_above: how many those are.
        squares_above: the sum of their squares.
    """

    low: float = -np.inf
    high: float = np.inf
    kept_above: int = 0
    squares_above: float = 0.0


def undecided(tensors: list[Tensor], total: int) -> list[Undecided]:
    """Return the range of each tensor's scores that bounds leave open.

    Args:
        tensors: scores (N,) each, not negative but for -inf, on the processor.
        total: how many scores of all tensors together stay; at most as many as there are.
    """
    binned = [_Bins.of(tensor) for tensor in tensors]
    counts = np.concatenate([bins.counts for bins in binned])
    least = _weighted_kth(np.concatenate([bins.lower for bins in binned]), counts, total)
    most = _weighted_kth(np.concatenate([bins.upper for bins in binned]), counts, total)
    return [bins.between(least - SLACK * abs(least), most + SLACK * abs(most)) for bins in binned]


@dataclass(frozen=True)
class _Bins:
    """Hold a tensor's bins that are not empty, those of the largest scores first.

    Attributes:
        low: the smallest score that each can have.
        high: the smallest one that is too large for it.
        counts: scores in each.
        above: sum of squares of the scores before each, and of all in the end.
    """

    low: Array
    high: Array
    counts: NDArray[np.int64]
    above: Array

    @classmethod
    def of(cls, flat: Tensor) -> "_Bins":
        """Count a tensor's scores (N,)."""
        values = flat.float().numpy() + np.float32(0)  # -0 becomes 0
        # bits order positive floats as whole numbers; bin 0 has what is negative: removed already
        bins = np.maximum(values.view(np.int32) >> SHIFT, -1) + 1
        weights = np.maximum(values, 0).astype(np.float64)
        counts, sums = np.bincount(bins), np.bincount(bins, weights=weights * weights)
        used = counts.nonzero()[0][::-1]
        above = np.concatenate([[0.0], sums[used].cumsum()])
        return cls(_smallest(used), _smallest(used + 1), counts[used], above)

    @property
    def lower(self) -> Array:
        """Return what the LAMP scores in each bin are at least; -1 of what is removed already."""
        bound = np.maximum(self.low, 0) ** 2 / np.maximum(self.above[1:], TINY)
        return np.where(self.low < 0, -1.0, bound)

    @property
    def upper(self) -> Array:
        """Return what the LAMP scores in each bin are at most."""
        square = self.high**2
        return np.where(self.low < 0, -1.0, square / (self.above[:-1] + square + TINY))

    def between(self, least: float, most: float) -> Undecided:
        """Return the scores whose LAMP scores may be in [least, most]."""
        first = int((self.lower > most).sum())
        last = max(len(self.counts) - int((self.upper < least).sum()), first)
        low, high = (self.low[last - 1], self.high[first]) if last > first else (0.0, 0.0)
        kept, above = int(self.counts[:first].sum()), float(self.above[first])
        return Undecided(float(low), float(high), kept, above)


def _smallest(bins: NDArray[np.int64]) -> Array:
    """Return the smallest value of each bin."""
    bits = (np.maximum(bins - 1, 0) << SHIFT).astype(np.int32)
    return np.where(bins > 0, bits.view(np.float32).astype(np.float64), -np.inf)


def _weighted_kth(bounds: Array, counts: NDArray[np.int64], k: int) -> float:
    """Return the k-th largest of bounds that each stand for so many scores."""
    order = np.argsort(-bounds)
    return float(bounds[order][np.searchsorted(counts[order].cumsum(), k)])
