"""Measure how often the truth is inside of the tables' intervals: python -m benchmarks coverage

Simulated experiments with a known truth. Whether a network is right on an image is decided by how
hard the image is, which all seeds share (``alike``: the share of the luck that is the image's), and
by how good the seed's network is (``between``: the standard deviation over seeds, in probits: at 50
% right, 0.2 are 8 points). The truth of one seed is that network's accuracy on all images there
could be; of several, the mean over all seeds there could be. Of a difference, two methods are
judged on the same images.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from scipy.stats import norm

from advprune.report.data.intervals import of_difference, over_images, over_seeds

Array = np.ndarray[Any, Any]
SEEDS = (1, 2, 3, 5)
IMAGES = (50, 200, 1000)
SHARES = (0.01, 0.1, 0.5, 0.84, 0.98)
BETWEEN = (0.0, 0.05, 0.2)
ALIKE = (0.3, 0.8, 1.0)
#: Experiments of a setting, and the least share of them whose interval holds the truth.
EXPERIMENTS, BAR = 2000, 0.93


def correct(random: np.random.Generator, level: Array, images: int, alike: float) -> Array:
    """Draw which images each network has right.

    Args:
        level: (experiments, networks), in probits; the networks of an experiment see the same
            images.
    Returns:
        (experiments, networks, images) of bool.
    """
    shared = random.standard_normal((len(level), 1, images), dtype=np.float32)
    if alike == 1:
        return np.asarray(shared < level[:, :, None])
    own = random.standard_normal((*level.shape, images), dtype=np.float32)
    return np.asarray(alike**0.5 * shared + (1 - alike) ** 0.5 * own < level[:, :, None])


def _levels(
    random: np.random.Generator, share: float, between: float, experiments: int, seeds: int
) -> Array:
    """Draw how good each seed's network is, such that the mean over all seeds is ``share``."""
    middle = norm.ppf(share) * (1 + between**2) ** 0.5
    return np.asarray(middle + between * random.standard_normal((experiments, seeds)))


def share_is_inside(
    random: np.random.Generator,
    *,
    seeds: int,
    images: int,
    share: float,
    between: float,
    alike: float,
    experiments: int = EXPERIMENTS,
) -> float:
    """Return how often the interval of a share holds the truth."""
    level = _levels(random, share, between, experiments, seeds)
    counts = correct(random, level, images, alike).sum(2)
    truth = norm.cdf(level[:, 0]) if seeds == 1 else np.full(experiments, share)
    bounded = cache(
        lambda row: over_seeds([k / images for k in row], [over_images(k, images) for k in row])
    )
    ends = np.array([bounded(tuple(sorted(row))) for row in counts.tolist()])
    return float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())


def difference_is_inside(
    random: np.random.Generator,
    *,
    seeds: int,
    images: int,
    share: float,
    between: float,
    alike: float,
    better: float = 0.05,
    experiments: int = EXPERIMENTS,
) -> float:
    """Return how often the interval of a difference holds the truth.

    ``better`` says by how much the first method is better, in shares; the rest as for a share.
    """
    a = _levels(random, share, between, experiments, seeds)
    b = _levels(random, max(share - better, 0.005), between, experiments, seeds)
    right = correct(random, np.concatenate([a, b], axis=1), images, alike)
    first, second = right[:, :seeds], right[:, seeds:]
    only_a, only_b = (first & ~second).sum(2), (second & ~first).sum(2)
    truth = (
        norm.cdf(a[:, 0]) - norm.cdf(b[:, 0]) if seeds == 1 else share - max(share - better, 0.005)
    )
    bounded = cache(
        lambda row: over_seeds(
            [(i - j) / images for i, j in row], [of_difference(i, j, images) for i, j in row]
        )
    )
    ends = np.array(
        [
            bounded(tuple(sorted(map(tuple, row))))
            for row in np.stack([only_a, only_b], axis=2).tolist()
        ]
    )
    return float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())


def settings() -> Iterator[dict[str, Any]]:
    """Yield all settings but their number of seeds; of 1,000 images, only one likeness."""
    for images, share, between, alike in product(IMAGES, SHARES, BETWEEN, ALIKE):
        if images < max(IMAGES) or alike == ALIKE[1]:
            yield {"images": images, "share": share, "between": between, "alike": alike}


def run() -> list[dict[str, Any]]:
    """Return a row for each number of seeds: mean coverage over all settings, and the least."""
    random, rows = np.random.default_rng(0), []
    for what, inside in (("share", share_is_inside), ("difference", difference_is_inside)):
        for seeds in SEEDS:
            coverages = [
                (inside(random, seeds=seeds, **setting), setting) for setting in settings()
            ]
            worst, where = min(coverages, key=lambda one: one[0])
            setting_text = ", ".join(f"{name} {value:g}" for name, value in where.items())
            middle = sum(coverage for coverage, _ in coverages) / len(coverages)
            rows.append(
                {
                    "what": f"95 % interval of a {what}, seeds: {seeds}; the truth is inside",
                    "against": f"{EXPERIMENTS} experiments in each of {len(coverages)} settings",
                    "bar": f"≥ {100 * BAR:.0f} %",
                    "measured": f"{100 * middle:.1f} %; least {100 * worst:.1f} % ({setting_text})",
                }
            )
    return rows
