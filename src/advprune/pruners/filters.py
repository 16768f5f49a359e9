"""Filters chosen by score: an order of removal, and as much of it as a budget asks for.

``layer`` takes the same share of each layer, ``global`` compares scores across layers (Jordao and
Pedrini's code has both, https://arxiv.org/abs/2108.04890). HYDRA's filters are those of the
smallest L1 norm of learned scores (https://arxiv.org/abs/2002.10509).
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch

from advprune.errors import UserError
from advprune.masks import Scores, check_ratio
from advprune.ranges import decimal

Scope = Literal["layer", "global"]
Share = Callable[[dict[str, int]], float]


def counted(n: int, ratio: float) -> int:
    """Return how many of ``n`` filters the share ``ratio`` is, never all of them.

    It is round(ratio * n), halves to even.
    """
    return min(round(decimal(ratio) * n), n - 1)


def order(
    scores: Scores, *, scope: Scope, floor: int, original: Mapping[str, int]
) -> list[tuple[str, int]]:
    """Return every filter that may go as (site, index), the first to go first.

    The best ``floor`` of each layer never go.

    Args:
        scope: ``layer`` orders by the share of a layer gone, ``global`` by score across layers.
        floor: filters that each layer keeps.
        scores: (F,) per site.
        original: filters that each site had before any round; ``layer`` counts shares of these.

    Raises:
        UserError: if a score is NaN, or the scope is unknown.
    """
    keyed = []
    for rank, (site, score) in enumerate(scores.items()):
        if torch.isnan(score).any():
            raise UserError(
                f"scores of {site} are NaN and cannot be ranked; the network that made them "
                "diverged"
            )
        values = score.double().cpu()
        lowest = torch.argsort(values, stable=True).tolist()
        gone = original[site] - len(lowest)
        for position, index in enumerate(lowest[: max(len(lowest) - floor, 0)]):
            shares = (gone + position + 0.5) / original[site]
            if scope not in ("layer", "global"):
                raise UserError(
                    f"pruner.scope={scope} is not possible for filters: choose layer or global"
                )
            keyed.append(
                (shares if scope == "layer" else float(values[index]), rank, position, site, index)
            )
    return [(site, index) for _, _, _, site, index in sorted(keyed)]


def choose(
    scores: Scores,
    ratio: float,
    *,
    share: Share,
    scope: Scope,
    original: Mapping[str, int],
    floor: int = 1,
    round_to: int = 1,
) -> dict[str, list[int]]:
    """Return the filters kept when the fewest go that take at least ``ratio`` of the budget.

    Args:
        ratio: share of the dense network's budget to remove in all, in [0, 1).
        scope: see ``order``.
        scores: (F,) per site.
        share: filters removed per site in this round -> share of the dense network's budget gone by
            then.
        original: see ``order``.
        floor: filters that each layer keeps, at least 1.
        round_to: each layer keeps a multiple of this, or all it has.

    Returns:
        The kept indices of each site, ascending.

    Raises:
        UserError: if the network cannot lose that much; the error names the largest ratio it can.
    """
    check_ratio(ratio)
    line = order(scores, scope=scope, floor=max(floor, 1), original=original)
    sizes = {site: score.numel() for site, score in scores.items()}

    def removed(length: int) -> dict[str, int]:
        counts = dict.fromkeys(sizes, 0)
        for site, _ in line[:length]:
            counts[site] += 1
        return {site: _rounded(sizes[site], count, round_to) for site, count in counts.items()}

    if share(removed(len(line))) < ratio - 1e-12:
        largest = share(removed(len(line)))
        raise UserError(
            f"ratio={ratio:g} is not possible: with {max(floor, 1)} filter{'s' * (floor > 1)} left "
            f"in each of {len(sizes)} layers whose filters may go, the largest is {_down(largest)}"
        )
    low, high = 0, len(line)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if share(removed(middle)) >= ratio - 1e-12 else (middle + 1, high)
    return _kept(line, removed(low), sizes)


def uniform(
    scores: Scores, ratio: float, *, original: Mapping[str, int], round_to: int = 1
) -> dict[str, list[int]]:
    """Return the filters kept when every layer loses the same share, each rounded by itself.

    A budget counted in filters.

    Raises:
        UserError: if ``ratio`` is more than one filter a layer leaves to remove.
    """
    check_ratio(ratio)
    largest = 1 - len(original) / sum(original.values())
    if ratio > largest + 1e-12:
        raise UserError(
            f"ratio={ratio:g} is not possible: with 1 filter left in each of {len(original)} "
            f"layers whose filters may go, the largest is {_down(largest)}"
        )
    sizes = {site: score.numel() for site, score in scores.items()}
    line = order(scores, scope="layer", floor=1, original=original)
    counts = {
        site: max(counted(original[site], ratio) - (original[site] - n), 0)
        for site, n in sizes.items()
    }
    return _kept(
        line,
        {site: _rounded(sizes[site], count, round_to) for site, count in counts.items()},
        sizes,
    )


def of_weight_scores(scores: Scores, sites: list[str]) -> Scores:
    """Return the L1 norm of each filter's learned weight scores (HYDRA's structured variant).

    Args:
        sites: names of the convolutions.
        scores: one signed tensor per prunable weight.
    """
    return {site: scores[f"{site}.weight"].detach().abs().flatten(1).sum(1) for site in sites}


def _rounded(size: int, removed: int, multiple: int) -> int:
    stays = -(-(size - removed) // multiple) * multiple
    return max(size - stays, 0)


def _kept(
    line: list[tuple[str, int]], removed: dict[str, int], sizes: dict[str, int]
) -> dict[str, list[int]]:
    gone: dict[str, set[int]] = {site: set() for site in sizes}
    for site, index in line:
        if len(gone[site]) < removed[site]:
            gone[site].add(index)
    return {site: [i for i in range(size) if i not in gone[site]] for site, size in sizes.items()}


def _down(value: float) -> str:
    return f"{int(value * 10_000) / 10_000:g}"
