"""What a process that prunes whole filters is told of the network, besides its task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from advprune.masks import Masks, Scores


@dataclass(frozen=True)
class Cost:
    """Say what a layer costs in the budget: pairs * k_in * k_out + outputs * k_out.

    Attributes:
        pairs: what all pairs of inputs and outputs cost in the dense network.
        outputs: what its outputs cost besides.
        out_site: the site whose filters its outputs are; None: they stay.
        in_site: the site whose filters its inputs are; None: they stay.
    """

    pairs: float
    outputs: float
    out_site: str | None = None
    in_site: str | None = None

    def at(self, kept: Mapping[str, Tensor]) -> Tensor | float:
        """Return the cost where each site keeps this share of its filters."""
        ins = 1.0 if self.in_site is None else kept[self.in_site]
        outs = 1.0 if self.out_site is None else kept[self.out_site]
        return (self.pairs * ins + self.outputs) * outs


@runtime_checkable
class FilterSpend(Protocol):
    """Spend a ratio of a budget on whole filters: a ``task.Spend`` that knows the network's sites.

    Attributes:
        widths: filters at each site.
        costs: of each layer.
        readers: {weight: the site whose filters are its input channels}.
    """

    widths: dict[str, int]
    readers: dict[str, str]
    costs: list[Cost]

    def __call__(self, scores: Scores, ratio: float, *, within: Masks | None = None) -> Masks:
        """Return the masks that remove ``ratio`` of the budget."""

    def masks(self, kept: Mapping[str, list[int]], like: Scores) -> Masks:
        """Return the masks of all that goes with the filters that are not kept."""
