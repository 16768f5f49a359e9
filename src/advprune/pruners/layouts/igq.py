"""Spread a ratio by ideal-gas quotas: small tensors stay nearly dense, large ones give most."""

from collections.abc import Sequence
from functools import lru_cache

from advprune.masks import Masks, Scores, largest
from advprune.pruners.layouts.checks import total_kept


def igq(scores: Scores, ratio: float) -> Masks:
    """Keep the share 1 / (F * size + 1) of each tensor, one F >= 0 for all.

    The layout of Flying Bird (Chen et al. 2022, https://arxiv.org/abs/2202.09844), by its code;
    there a tensor's count is right in expectation, here the total is exact, no tensor is emptied,
    and a higher ratio never gives any tensor more.

    Raises:
        UserError: if ``ratio`` is not in [0, 1) or leaves fewer weights than there are tensors.
    """
    sizes = tuple(score.numel() for score in scores.values())
    return largest(scores, igq_counts(sizes, total_kept(scores, ratio)))


@lru_cache(maxsize=64)
def igq_counts(sizes: tuple[int, ...], total: int) -> tuple[int, ...]:
    """Deal ``total`` weights by ideal-gas quotas, 1 to size each.

    Args:
        sizes: of the tensors.
        total: weights to keep, from one a tensor to all.

    Returns:
        The counts: the quotas of the one F at which they, rounded to whole weights, add up to the
        total. Where several tensors round at the same F, the first ones get the weight.
    """
    low, high = 0.0, 1.0  # from all weights to one a tensor
    while low < (middle := (low + high) / 2) < high:
        if sum(_rounded(sizes, middle)) > total:
            low = middle
        else:
            high = middle
    counts = _rounded(sizes, high)
    for i, count in enumerate(_rounded(sizes, low)):
        counts[i] += min(count - counts[i], total - sum(counts))
    return tuple(counts)


def _rounded(sizes: Sequence[int], pressure: float) -> list[int]:
    """Return max(1, size / (F * size + 1)), rounded; exact, in whole numbers."""
    top, bottom = pressure.as_integer_ratio()
    shares = [(size * bottom, top * size + bottom) for size in sizes]
    return [max((2 * size + whole) // (2 * whole), 1) for size, whole in shares]
