"""Bound a probability from a number of hits, and the radius that smoothing proves by it."""

from functools import lru_cache
from statistics import NormalDist

from scipy.stats import binomtest


@lru_cache(maxsize=100_000)
def lower_confidence(hits: int, n: int, alpha: float) -> float:
    """Bound a probability from below, from ``hits`` of ``n`` samples.

    The one-sided Clopper-Pearson bound of scipy; it holds with probability 1 - ``alpha``.
    """
    return float(
        binomtest(hits, n, alternative="greater").proportion_ci(1 - alpha, method="exact").low
    )


def radius_of(probability: float, sigma: float) -> float:
    """Return the L2 radius of a class of at least this probability under noise ``sigma``.

    It is 0 for a probability of one half or less.
    """
    return sigma * NormalDist().inv_cdf(probability) if probability > 0.5 else 0.0


def least_hits(n: int, alpha: float) -> int:
    """Return the fewest of ``n`` samples on one class that certify it; n + 1 if none would do."""
    low, high = n // 2, n + 1
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if lower_confidence(middle, n, alpha) <= 0.5 else (low, middle)
    return high
