"""Spread a ratio by Erdős–Rényi-Kernel densities."""

from fractions import Fraction
from functools import lru_cache
from math import floor, prod

from advprune.masks import Masks, Scores, largest
from advprune.pruners.layouts.checks import total_kept


def erk(scores: Scores, ratio: float) -> Masks:
    """Spread the ratio by Erdős–Rényi-Kernel densities, ∝ sum(dims) / prod(dims).

    Evci et al. 2020, https://arxiv.org/abs/1911.11134.

    Tensors whose share would pass 1 stay dense; the total over all is exact and no tensor is
    emptied. Whole weights are dealt by Jefferson's method, so that a higher ratio never gives any
    tensor more.

    Raises:
        UserError: if ``ratio`` is not in [0, 1) or leaves fewer weights than there are tensors.
    """
    shapes = tuple(tuple(score.shape) for score in scores.values())
    return largest(scores, erk_counts(shapes, total_kept(scores, ratio)))


@lru_cache(maxsize=64)
def erk_counts(shapes: tuple[tuple[int, ...], ...], total: int) -> tuple[int, ...]:
    """Distribute ``total`` weights in proportion to sum(shape), 1 to prod(shape) each.

    Exact, in rationals; remembered, for a search asks in every step.
    """
    sizes, dims = [prod(shape) for shape in shapes], [sum(shape) for shape in shapes]

    def shares(rate: Fraction) -> list[Fraction]:
        return [
            min(max(rate * dim, Fraction(1)), Fraction(size))
            for size, dim in zip(sizes, dims, strict=True)
        ]

    # sum(shares(rate)) is piecewise linear; its corners are where a tensor leaves its minimum or
    # fills up
    corners = sorted(
        {Fraction(1, dim) for dim in dims}
        | {Fraction(s, d) for s, d in zip(sizes, dims, strict=True)}
    )
    rate = max(corner for corner in corners if sum(shares(corner)) <= total)
    growing = sum(dim for size, dim in zip(sizes, dims, strict=True) if 1 <= rate * dim < size)
    if growing:
        rate += (total - sum(shares(rate), Fraction())) / growing
    counts = [floor(share) for share in shares(rate)]
    while sum(counts) < total:  # fewer than len(shapes) rounds: only fractions are left to deal
        open_ = [i for i, count in enumerate(counts) if count < sizes[i]]
        counts[min(open_, key=lambda i: Fraction(counts[i] + 1, dims[i]))] += 1
    return tuple(counts)
