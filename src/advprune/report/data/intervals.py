"""Compute 95 % intervals of accuracies and their differences, and pool rows that differ in seed.

An accuracy is uncertain for two reasons: other test images might have been drawn, and another seed
trains another network. All seeds share their images, so more seeds do not average out the luck of
the images. Each reason has an interval of its own: Wilson's with continuity correction over the
images (its coverage never falls below 95 % for shares near 0 and 1, where the plain one's falls to
90 %), Student's t over the seeds. Their distances from the estimate are combined as a root of a sum
of squares (MOVER: Zou and Donner 2008, Statistics in Medicine 27:1693). So no interval is narrower
than either of the two, and seeds that agree by chance narrow nothing.

``python -m benchmarks coverage`` measures how often the truth is inside.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from statistics import mean, stdev
from typing import Any

from advprune.report.data.row import Row

#: The lower and the upper end.
Interval = list[float]
LEVEL = 0.95
#: The normal distribution's quantile for a two-sided interval of this level.
NORMAL = 1.959963984540054
#: The accuracies that a row has.
SHARES = (
    *("dense_clean_acc", "dense_robust_acc", "dense_certified_acc", "dense_mean_acc"),
    *("clean_acc", "robust_acc", "certified_acc", "mean_acc"),
    *("target_acc", "both_correct", "transfer_rate"),
)
#: The columns in which two rows of a table may differ, other than the seed.
IDENTITY = (
    *("dataset", "model", "objective", "threat", "pruner", "ratio", "foreign", "quantizer"),
    *("attack", "eps", "norm", "perturbation", "images", "source"),
)


@cache  # a report needs the interval of the same counts many times
def _score_interval(right: int, images: int) -> tuple[float, float]:
    # imported here: it takes a second, which a command that reuses everything need not spend
    from scipy.stats import binomtest

    low, high = binomtest(right, images).proportion_ci(LEVEL, method="wilsoncc")
    return float(low), float(high)


def over_images(right: int, images: int) -> Interval:
    """Return the interval of the share of images that one network has right.

    Wilson's with continuity correction (scipy). With one seed nothing else is known: the interval
    is about this network, and not about its recipe.
    """
    return list(_score_interval(right, images))


def over_seeds(values: Sequence[float], of_images: Sequence[Interval]) -> Interval:
    """Return the interval of a mean over seeds whose networks see the same images.

    Args:
        values: of each seed, a share or a difference of shares.
        of_images: each seed's own interval over the images.

    Returns:
        Its two ends; of a single seed, that seed's own interval.
    """
    middle = mean(values)
    seeds = t_half_width(values) if len(values) > 1 else 0.0
    below = mean(value - low for value, (low, _) in zip(values, of_images, strict=True))
    above = mean(high - value for value, (_, high) in zip(values, of_images, strict=True))
    return [middle - math.hypot(below, seeds), middle + math.hypot(above, seeds)]


def of_difference(only_a: int, only_b: int, images: int) -> Interval:
    """Return the interval of the difference of two networks' shares on the same images.

    After Bonett and Price 2012 (Journal of Educational and Behavioral Statistics 37:479): one image
    is added that only the first has right, and one that only the second has, so that networks that
    agree on all images do not get an interval of width 0.

    Args:
        only_a: number of images that only the first has right.
        only_b: number of images that only the second has right.
        images: number of images in all.
    """
    p, q, n = (only_a + 1) / (images + 2), (only_b + 1) / (images + 2), images + 2
    half = NORMAL * math.sqrt((p + q - (p - q) ** 2) / n)
    plain = (only_a - only_b) / images  # near -1 and 1 it lies outside of the shrunk interval
    return [min(p - q - half, plain), max(p - q + half, plain)]


def of_unpaired(a: float, of_a: Interval, b: float, of_b: Interval) -> Interval:
    """Return the interval of a difference of which only both shares' intervals are known."""
    below, above = math.hypot(a - of_a[0], of_b[1] - b), math.hypot(of_a[1] - a, b - of_b[0])
    return [a - b - below, a - b + above]


def t_half_width(values: Sequence[float]) -> float:
    """Return half the width of Student's t interval of a mean of two or more values."""
    return _quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


@cache  # scipy takes milliseconds, and a report needs thousands
def _quantile(degrees_of_freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, degrees_of_freedom))


def interval_notes(seeds: set[int]) -> list[str]:
    """Return what the intervals of rows with these numbers of seeds are, as sentences."""
    notes = []
    if 1 in seeds:
        notes.append(
            "one seed: 95 % Wilson interval over the images, continuity-corrected; "
            "about this network alone"
        )
    if seeds - {1}:
        notes.append(
            "several seeds: 95 % interval over images and seeds "
            "(Wilson and Student's t together, MOVER)"
        )
    return notes


def identity(row: Row) -> tuple[Any, ...]:
    """Return what a row has in common with those of other seeds."""
    return tuple(str(row.get(name)) for name in IDENTITY)


def pool(rows: list[Row], same: Callable[[Row], Hashable] = identity) -> list[Row]:
    """Return one row for each group of seeds, in the order in which they come.

    Args:
        rows: one row a job.
        same: row -> its group.

    Returns:
        The pooled rows, with ``seeds``; of a single seed, the row itself with its intervals.
    """
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(same(row), []).append(row)
    return [
        _pooled(list({row["seed"]: row for row in group}.values())) for group in groups.values()
    ]


def _pooled(rows: list[Row]) -> Row:
    if len(rows) == 1:
        return rows[0] | {"seeds": 1}
    row = dict(rows[0]) | {
        "seeds": len(rows),
        "seed": None,
        "seconds": sum(r["seconds"] for r in rows),
    }
    row["doubts"] = sorted({doubt for r in rows for doubt in r["doubts"]})
    for name in ("abstained", "audited", "audited_held", "not_found"):
        if row.get(name) is not None:
            row[name] = sum(r[name] for r in rows)
    if row.get("distance_quartiles"):
        parts = zip(*(r["distance_quartiles"] for r in rows), strict=True)
        row["distance_quartiles"] = [None if None in part else mean(part) for part in parts]
    row["code"] = sorted({version for r in rows for version in r.get("code", [])})
    for name in SHARES:
        measured = [r for r in rows if r.get(name) is not None]
        if measured:
            row[name] = mean(r[name] for r in measured)
            bounded = [r for r in measured if r.get(f"{name}_interval") is not None]
            if bounded:
                row[f"{name}_interval"] = over_seeds(
                    [r[name] for r in bounded], [r[f"{name}_interval"] for r in bounded]
                )
    return row
