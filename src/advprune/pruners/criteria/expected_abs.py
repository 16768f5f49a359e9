"""ExpectedABS (DropNet, Tan and Motani 2020, https://arxiv.org/abs/2207.06646): the mean |activation| of each map."""

from torch import nn

from advprune.masks import Scores
from advprune.pruners.criteria.feature_maps import Batches, Sites, of_maps
from advprune.ranges import Count


def expected_abs(
    model: nn.Module, batches: Batches, *, sites: Sites, images: Count | None = None
) -> Scores:
    """Score filters or blocks; larger = keep.

    Args:
        sites: all filter sites or all block sites of the model.
        images: how many are looked at; None for all.
    """
    return of_maps(model, batches, sites, images, lambda maps: maps.abs().mean((2, 3)))
