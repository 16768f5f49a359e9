"""How much of a dense network is gone: in parameters, MACs, filters or blocks."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from advprune.errors import UserError
from advprune.sites import BlockSite, FilterSite
from advprune.surgery.channel_groups import Groups, groups
from advprune.surgery.cost import Layer, layers, total, without
from advprune.surgery.filters import width

Budget = Literal["parameters", "macs", "filters", "blocks"]


@dataclass(frozen=True)
class Dense:
    """Sizes and costs of a network before anything is removed.

    Args:
        filters: its filter sites.
        blocks: its residual blocks.
        groups: the followers of each filter site.
        widths: filters at each site.
        costs: of each layer.
    """

    filters: list[FilterSite]
    blocks: list[BlockSite]
    groups: Groups
    widths: dict[str, int]
    costs: dict[str, Layer]

    def left(self, removed: dict[str, int], gone: list[str]) -> dict[str, Layer]:
        """Return each layer's cost without ``removed`` filters per site and the ``gone`` blocks."""
        costs = without(self.costs, self.groups, removed)
        inside = tuple(f"{name}." for name in gone)
        return {name: layer for name, layer in costs.items() if not name.startswith(inside)}

    def share(self, budget: Budget, removed: dict[str, int], gone: list[str]) -> float:
        """Return the share of the budget that is gone, in [0, 1].

        Raises:
            UserError: if the network has nothing of the kind, or the budget is unknown.
        """
        if budget == "filters" and self.widths:
            return sum(removed.values()) / sum(self.widths.values())
        if budget == "blocks" and self.blocks:
            return len(gone) / len(self.blocks)
        if budget not in ("parameters", "macs"):
            raise UserError(
                f"pruner.budget={budget} is not possible for this network: choose parameters or "
                "macs, filters where convolutions may lose some, blocks where there are residual "
                "ones"
            )
        at = 0 if budget == "parameters" else 1
        return 1 - total(self.left(removed, gone))[at] / total(self.costs)[at]


def dense(
    model: nn.Module,
    filters: list[FilterSite],
    blocks: list[BlockSite],
    shape: tuple[int, int, int],
) -> Dense:
    """Measure a network; it is not changed.

    Args:
        model: the dense network.
        filters: its filter sites.
        blocks: its residual blocks.
        shape: (C, H, W) of an image.
    """
    widths = {site.conv: width(model, site.conv) for site in filters}
    return Dense(filters, blocks, groups(model, filters, shape), widths, layers(model, shape))
