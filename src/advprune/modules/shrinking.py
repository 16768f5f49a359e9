"""Remove filters or blocks of a network, round by round, and count what is left."""

from typing import Any, cast

import torch
from torch import nn

from advprune.errors import UserError
from advprune.masks import Scores
from advprune.models.find_sites import block_sites, filter_sites
from advprune.pruners import blocks as block_choice
from advprune.pruners import filters as filter_choice
from advprune.pruners.spending import Spending
from advprune.ranges import decimal
from advprune.sites import BlockSite, FilterSite
from advprune.surgery.budget import dense
from advprune.surgery.cost import layers, total
from advprune.surgery.structure import Structure, shapes, shrink


class Shrinking:
    """Keep a network that gets smaller, and what is gone so far.

    Args:
        net: the dense network; it is changed in place.
        units: what is removed, and by which budget.
        shape: (C, H, W) of its images.

    Attributes:
        kept: the filters that stay at each site, as the dense network numbers them.
        blocks: the blocks that are gone.
    """

    def __init__(self, net: nn.Module, units: Spending, shape: tuple[int, int, int]) -> None:
        assert units.budget is not None
        self.net, self.units, self.shape, self._budget = net, units, shape, units.budget
        self.whole = dense(net, filter_sites(net), block_sites(net), shape)
        self.kept = {site: list(range(width)) for site, width in self.whole.widths.items()}
        self.blocks: list[str] = []

    def sites(self) -> list[FilterSite] | list[BlockSite]:
        """Return where something may still be removed."""
        if self.units.unit == "filters":
            return self.whole.filters
        return [site for site in self.whole.blocks if site.name not in self.blocks]

    def score_shapes(self) -> dict[str, torch.Size]:
        """Return the shape of each site's scores: one a filter that is left, a scalar a block."""
        filters = self.units.unit == "filters"
        return {
            site.name: torch.Size([len(self.kept[site.name])] if filters else [])
            for site in self.sites()
        }

    def parameters_left(self) -> int:
        """Return how many parameters the choice leaves."""
        return total(self.whole.left(self._removed(), self.blocks))[0]

    def cut(self, scores: Scores, ratio: float) -> None:
        """Cut what has the lowest scores, until the share ``ratio`` of the budget is gone."""
        chosen = (
            Structure({}, self._choose_blocks(scores, ratio), {})
            if self.units.unit == "blocks"
            else Structure(self.choose_filters(scores, ratio), [], {})
        )
        self._remove(chosen)

    def choose_filters(self, scores: Scores, ratio: float) -> dict[str, list[int]]:
        """Return the filters that stay at each site, of those that are left.

        Args:
            scores: (F,) per site; the lowest go.
            ratio: share of the budget to be gone in all.
        """
        multiple, before, widths = self.units.round_to or 1, self._removed(), self.whole.widths
        if self._is_uniform():
            return filter_choice.uniform(scores, ratio, original=widths, round_to=multiple)
        return filter_choice.choose(
            scores,
            ratio,
            scope=cast(filter_choice.Scope, self.units.scope),
            original=widths,
            floor=self.units.floor or 1,
            round_to=multiple,
            share=lambda now: self.whole.share(
                self._budget, {site: count + before[site] for site, count in now.items()}, []
            ),
        )

    def keep(self, filters: dict[str, list[int]]) -> None:
        """Cut all but these filters of each site."""
        self._remove(Structure(filters, [], {}))

    def structure(self) -> Structure:
        """Return what is gone of the dense network."""
        widths = self.whole.widths
        cut = {site: kept for site, kept in self.kept.items() if len(kept) < widths[site]}
        return Structure(cut, self.blocks, shapes(self.net))

    def counts(self, ratio: float) -> dict[str, Any]:
        """Count what is left, for the result.

        Raises:
            UserError: if it is not what the choice promised.
        """
        removed = self._removed()
        promised = total(self.whole.left(removed, self.blocks))
        measured = total(layers(self.net, self.shape))
        parameters = sum(parameter.numel() for parameter in self.net.parameters())
        if measured != promised or parameters != promised[0]:
            raise UserError(
                f"pruning left {parameters} parameters and {measured[1]} MACs, not {promised}: a "
                "defect"
            )
        achieved = self.whole.share(self._budget, removed, self.blocks)
        if not self._rounds() and achieved < ratio - 1e-9:
            raise UserError(
                f"pruning to ratio={ratio:g} of {self._budget} removed only {achieved:.4f}: a "
                "defect"
            )
        dense_parameters, dense_macs = total(self.whole.costs)
        return {
            "sparsity": 1 - parameters / dense_parameters,
            "zeros": 1 - parameters / dense_parameters,
            "budget": self._budget,
            "achieved": achieved,
            "params": parameters,
            "dense_params": dense_parameters,
            "macs": measured[1],
            "dense_macs": dense_macs,
            "filters": sum(map(len, self.kept.values())),
            "dense_filters": sum(self.whole.widths.values()),
            "blocks": len(self.whole.blocks) - len(self.blocks),
            "dense_blocks": len(self.whole.blocks),
            "blocks_removed": self.blocks,
            "widths": {site: len(kept) for site, kept in self.kept.items()},
        }

    def _remove(self, chosen: Structure) -> None:
        shrink(self.net, chosen, groups=self.whole.groups, sites=self.whole.blocks)
        self.blocks += chosen.blocks
        for site, stay in chosen.filters.items():
            self.kept[site] = [self.kept[site][index] for index in stay]

    def _removed(self) -> dict[str, int]:
        """Return how many filters are gone at each site."""
        return {site: self.whole.widths[site] - len(kept) for site, kept in self.kept.items()}

    def _is_uniform(self) -> bool:
        return self._budget == "filters" and self.units.scope == "layer"

    def _rounds(self) -> bool:
        """Return whether the ratio is rounded to whole filters of a layer, or to whole blocks."""
        return self._budget == "blocks" or self._is_uniform()

    def _choose_blocks(self, scores: Scores, ratio: float) -> list[str]:
        blocks = self.whole.blocks
        if self._budget == "blocks" and blocks:
            ratio = round(decimal(ratio) * len(blocks)) / len(blocks)
        return block_choice.choose(
            scores,
            ratio,
            sites=blocks,
            share=lambda gone: self.whole.share(self._budget, {}, gone),
            gone=self.blocks,
            floor=self.units.floor or block_choice.FLOOR,
        )
