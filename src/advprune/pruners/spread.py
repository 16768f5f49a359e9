"""Spread a number of weights over layers: shares to whole numbers, or one ranking of all."""

from collections.abc import Sequence

import torch

from advprune.masks import Masks, Scores, top_k


def spread(
    shares: Sequence[float], total: int, least: Sequence[int], most: Sequence[int]
) -> list[int]:
    """Round shares to whole numbers that sum to ``total``, the largest remainders up.

    Args:
        shares: whose sum is ``total``, or near.
        total: sum of the result, between those of ``least`` and ``most``.
        least: lower bounds.
        most: upper bounds.
    """
    bounds = list(zip(least, most, strict=True))
    counts = [min(max(int(s), low), high) for s, (low, high) in zip(shares, bounds, strict=True)]
    while (missing := total - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        free = [i for i, (low, high) in enumerate(bounds) if low <= counts[i] + step <= high]
        counts[max(free, key=lambda i: step * (shares[i] - counts[i]))] += step
    return counts


def top_of_all(scores: Scores, k: int) -> Masks:
    """Mark exactly the ``k`` largest scores of all tensors together; ties are broken stably."""
    flat = torch.cat([score.detach().reshape(-1) for score in scores.values()])
    parts = top_k(flat, k).split([score.numel() for score in scores.values()])
    return {n: part.view(scores[n].shape) for n, part in zip(scores, parts, strict=True)}
