"""Spend a ratio on whole filters, as masks of single weights: for a process that prunes filters."""

from collections.abc import Iterable, Mapping

import torch

from advprune.masks import Masks, Scores
from advprune.modules.shrinking import Shrinking
from advprune.pruners.filter_spend import Cost
from advprune.surgery.budget import Budget, Dense


class SpendOnFilters:
    """Rank the filters of each site by the L2 norm of their weights' scores, and keep the best.

    A filter's mask takes its own weights and those that read its channel: so what a BatchNorm makes
    of a filter of zeros reaches nothing, and the masked network is the one that surgery leaves.

    Args:
        shrinking: the dense network, of which nothing is gone yet, and the budget.
    """

    def __init__(self, shrinking: Shrinking) -> None:
        self.shrinking, self.groups = shrinking, shrinking.whole.groups
        self.widths = shrinking.whole.widths
        self.readers = {
            f"{follower.module}.weight": site
            for site, followers in self.groups.items()
            for follower in followers
            if follower.side == "in"
        }
        self.costs = costs(shrinking.whole, shrinking.units.budget or "parameters")

    def __call__(self, scores: Scores, ratio: float, *, within: Masks | None = None) -> Masks:
        """Return the masks that remove ``ratio`` of the budget."""
        norms = {
            site: scores[f"{site}.weight"].detach().flatten(1).norm(dim=1) for site in self.widths
        }
        return self.masks(self.shrinking.choose_filters(norms, ratio), scores)

    def masks(self, kept: Mapping[str, list[int]], like: Scores) -> Masks:
        """Return masks that take the other filters, and what reads them."""
        masks = {name: torch.ones_like(score, dtype=torch.bool) for name, score in like.items()}
        for site, stay in kept.items():
            alive = torch.zeros(self.widths[site], dtype=torch.bool)
            alive[stay] = True
            for follower in self.groups[site]:
                mask = masks.get(f"{follower.module}.weight")
                if mask is not None:
                    entries = alive.repeat_interleave(follower.spread).to(mask.device)
                    ones = [1] * (mask.dim() - 2)
                    side = (-1, 1, *ones) if follower.side == "out" else (1, -1, *ones)
                    mask &= entries.view(side)
        return masks


def kept_filters(masks: Masks, sites: Iterable[str]) -> dict[str, list[int]]:
    """Return the filters of each site that masks leave."""
    rows = {site: masks[f"{site}.weight"].flatten(1).any(1) for site in sites}
    return {site: alive.nonzero().flatten().tolist() for site, alive in rows.items()}


def costs(whole: Dense, budget: Budget) -> list[Cost]:
    """Return what each layer costs in the budget, and which sites' filters it counts."""
    if budget == "filters":
        return [Cost(0, width, site) for site, width in whole.widths.items()]
    sites = {
        (follower.module, follower.side): site
        for site, followers in whole.groups.items()
        for follower in followers
    }
    return [
        Cost(
            layer.macs if budget == "macs" else layer.outputs * layer.inputs * layer.weights,
            0 if budget == "macs" else layer.outputs * layer.biases,
            sites.get((name, "out")),
            sites.get((name, "in")),
        )
        for name, layer in whole.costs.items()
    ]
