"""Test which differences between two methods are significant, on the same images.

Of one pair of networks, by McNemar's exact test (binomial, on the images that only one of
them has right). Of several seeds, a difference must show in each of them: the largest p of all, or
1 if they disagree on its sign (an intersection-union test; seeds share their images, so their
counts are not added up). All p of one report are corrected together by Benjamini and Yekutieli 2001
(Annals of Statistics 29:1165; scipy), which holds however the comparisons depend on each other, and
they do: they share networks. ``q`` is the corrected p; a difference is significant if q < 0.05.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import combinations
from statistics import mean
from typing import NotRequired, TypedDict

from advprune.report.data.intervals import Interval, of_difference, over_seeds
from advprune.report.data.pairing import axes_of, may_pair, pairing_keys
from advprune.report.data.records import ImageOutcomes, discordant
from advprune.report.data.runs import Run

LEVEL = 0.05
#: Of one seed: both runs, the images, and how many only the first and only the second has right.
Pair = tuple[Run, Run, int, int, int]


class Comparison(TypedDict):
    """Two methods on the same images.

    Attributes:
        axis: what they differ in: ``pruner`` or ``objective``.
        of: the first method's runs, by seed.
        against: the second method's.
        difference: in shares, first minus second, mean over seeds.
        interval: of the difference, 95 %, over images and seeds.
        only_of: how many images only the first has right, over all seeds.
        only_against: how many only the second.
        images: how many there are.
        seeds: how many there are.
        p: of McNemar's exact test, on every seed.
        q: p, corrected for all comparisons.
        significant: whether q < 0.05.
    """

    axis: str
    of: dict[int, Run]
    against: dict[int, Run]
    difference: float
    interval: Interval
    only_of: int
    only_against: int
    images: int
    seeds: int
    p: float
    q: NotRequired[float]
    significant: NotRequired[bool]


def comparisons(runs: Iterable[tuple[Run, ImageOutcomes]]) -> list[Comparison]:
    """Compare every two methods that differ in one thing.

    Args:
        runs: each with which images it has right.
    """
    comparable: dict[str, list[tuple[Run, ImageOutcomes]]] = defaultdict(list)
    for run, outcomes in runs:
        for axis in axes_of(run):
            for key in pairing_keys(run, axis):
                comparable[key].append((run, outcomes))
    pairs: dict[tuple[str, str, str], dict[int, Pair]] = defaultdict(dict)
    for key, members in comparable.items():
        axis = json.loads(key)[0]
        for pair in _pairs(members):
            a, b, *_ = pair
            if may_pair(key, a, b):
                pairs[axis, a.identity, b.identity][a.seed] = pair
    return list(
        corrected([_compared(axis, list(seeds.values())) for (axis, _, _), seeds in pairs.items()])
    )


def _pairs(members: list[tuple[Run, ImageOutcomes]]) -> Iterator[Pair]:
    """Yield every two of these runs that were evaluated on the same images by the same measure."""
    members = sorted(members, key=lambda member: member[0].identity)
    for (a, right_a), (b, right_b) in combinations(members, 2):
        same = (right_a.name, right_a.images) == (right_b.name, right_b.images)
        if same and a.identity != b.identity:
            yield a, b, right_a.count, *discordant(right_a, right_b)


def compare(
    axis: str,
    of: Mapping[int, tuple[Run, ImageOutcomes]],
    against: Mapping[int, tuple[Run, ImageOutcomes]],
) -> Comparison | None:
    """Compare two methods on the seeds and images that both have.

    Args:
        axis: what they differ in.
        of: the first method's runs with their outcomes, by seed.
        against: the second method's.

    Returns:
        The comparison without ``q``; None if there is no seed whose images both were measured on.
    """
    pairs: list[Pair] = []
    for seed in sorted(of.keys() & against.keys()):
        (a, right_a), (b, right_b) = of[seed], against[seed]
        if (right_a.name, right_a.images) == (right_b.name, right_b.images):
            pairs.append((a, b, right_a.count, *discordant(right_a, right_b)))
    return _compared(axis, pairs) if pairs else None


def _compared(axis: str, seeds: list[Pair]) -> Comparison:
    """Return one comparison over its seeds, without q."""
    differences = [(only_a - only_b) / images for _, _, images, only_a, only_b in seeds]
    bounds = [of_difference(only_a, only_b, images) for _, _, images, only_a, only_b in seeds]
    return {
        "axis": axis,
        "of": {a.seed: a for a, *_ in seeds},
        "against": {b.seed: b for _, b, *_ in seeds},
        "difference": mean(differences),
        "interval": over_seeds(differences, bounds),
        "only_of": sum(only for *_, only, _ in seeds),
        "only_against": sum(only for *_, only in seeds),
        "images": seeds[0][2],
        "seeds": len(seeds),
        "p": on_every_seed([(only_a, only_b) for *_, only_a, only_b in seeds]),
    }


def on_every_seed(counts: list[tuple[int, int]]) -> float:
    """Return the p of a difference that shows on every seed.

    Args:
        counts: of each seed, the images that only the first and only the second network has right.

    Returns:
        The largest of the seeds' exact McNemar p; 1 if their signs disagree.
    """
    if any(a > b for a, b in counts) and any(a < b for a, b in counts):
        return 1.0
    return max(mcnemar(a, b) for a, b in counts)


@cache  # many networks share their counts
def mcnemar(a: int, b: int) -> float:
    """Return the p of McNemar's exact test.

    It is the binomial test of one half, whose two tails are equal.

    Args:
        a: number of images that only the first network has right.
        b: number of images that only the second has right.
    """
    # imported here: it takes a moment, which a report without comparisons need not spend
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(a, b), a + b, 0.5))) if a + b else 1.0


def corrected(compared: list[Comparison]) -> Iterator[Comparison]:
    """Yield each comparison with ``q``, its p corrected for all, and whether q is small."""
    if not compared:
        return
    from scipy.stats import false_discovery_control

    all_q = false_discovery_control([row["p"] for row in compared], method="by")
    for row, q in zip(compared, all_q, strict=True):
        yield {**row, "q": float(q), "significant": bool(q < LEVEL)}
