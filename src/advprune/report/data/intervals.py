"""The 95 % intervals of this package: over the images of one network, over seeds and images, and of a difference.

A share is uncertain for two reasons: other test images might have been drawn, and another seed
trains another network. The images are the same for all seeds, so more seeds do not average their
luck away. Each reason has an interval of its own: Wilson's with continuity correction over the
images (its coverage never falls below 95 % for shares near 0 and 1, where the plain one's falls to
90 %), Student's t over the seeds. Their distances from the estimate are added as squares do (MOVER:
Zou and Donner 2008, Statistics in Medicine 27:1693). So no interval is narrower than either of the
two, and seeds that agree by chance narrow nothing. ``python -m benchmarks coverage`` measures how
often the truth is inside.
"""

import math
from collections.abc import Sequence
from functools import cache
from statistics import mean, stdev

#: Below and above the estimate.
Interval = list[float]
LEVEL = 0.95
#: The normal distribution's quantile of it.
NORMAL = 1.959963984540054


@cache  # a report asks for the same counts again and again
def _score_interval(right: int, images: int) -> tuple[float, float]:
    from scipy.stats import (
        binomtest,
    )  # a second to import, which a command that finds all it wants need not spend

    low, high = binomtest(right, images).proportion_ci(LEVEL, method="wilsoncc")
    return float(low), float(high)


def over_images(right: int, images: int) -> Interval:
    """Bound the share of images that one network has right (scipy: Wilson with continuity correction).

    With one seed this is all that is known: it is about this network, and not about its recipe.
    """
    return list(_score_interval(right, images))


def over_seeds(values: Sequence[float], of_images: Sequence[Interval]) -> Interval:
    """Bound the mean over seeds, which are judged on the same images.

    Args:
        values: of each seed, a share or a difference of shares.
        of_images: each seed's own interval over the images.
    Returns:
        The ends; of a single seed, its own interval.
    """
    middle = mean(values)
    seeds = t_half_width(values) if len(values) > 1 else 0.0
    below = mean(value - low for value, (low, _) in zip(values, of_images, strict=True))
    above = mean(high - value for value, (_, high) in zip(values, of_images, strict=True))
    return [middle - math.hypot(below, seeds), middle + math.hypot(above, seeds)]


def of_difference(only_a: int, only_b: int, images: int) -> Interval:
    """Bound the difference of two networks' shares on the same images.

    After Bonett and Price 2012 (Journal of Educational and Behavioral Statistics 37:479): one image
    more that only the first has right, and one more that only the second has, so that networks that
    agree are not certain to.

    Args:
        only_a, only_b: images that only the first has right, and only the second.
    """
    p, q, n = (only_a + 1) / (images + 2), (only_b + 1) / (images + 2), images + 2
    half = NORMAL * math.sqrt((p + q - (p - q) ** 2) / n)
    plain = (
        only_a - only_b
    ) / images  # at the ends of the scale, the estimate lies outside of what is drawn in
    return [min(p - q - half, plain), max(p - q + half, plain)]


def of_unpaired(a: float, of_a: Interval, b: float, of_b: Interval) -> Interval:
    """Bound a difference of two shares of which only their own intervals are known: as if of different images."""
    below, above = math.hypot(a - of_a[0], of_b[1] - b), math.hypot(of_a[1] - a, b - of_b[0])
    return [a - b - below, a - b + above]


def t_half_width(values: Sequence[float]) -> float:
    """How far Student's t interval of a mean of at least two values reaches to each side (quantile from scipy)."""
    return _quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


@cache  # scipy takes milliseconds, and a report asks for thousands
def _quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, freedom))


def described(seeds: set[int]) -> list[str]:
    """Say what the intervals of rows with these numbers of seeds are, for the foot of a table or a plot."""
    said = []
    if 1 in seeds:
        said.append(
            "one seed: 95 % Wilson interval over the images, continuity-corrected; about this network alone"
        )
    if seeds - {1}:
        said.append(
            "several seeds: 95 % interval over images and seeds (Wilson and Student's t together, MOVER)"
        )
    return said
