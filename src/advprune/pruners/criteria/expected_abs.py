"""ExpectedABS: the mean |activation| of each map (DropNet, Tan and Motani 2020).

https://arxiv.org/abs/2207.06646
"""

from torch import nn

from advprune.masks import Scores
from advprune.pruners.criteria.feature_maps import Batches, Sites, of_maps
from advprune.ranges import Count


def expected_abs(
    model: nn.Module, batches: Batches, *, sites: Sites, images: Count | None = None
) -> Scores:
    """Score filters or blocks; larger = keep.

    Args:
        model: a network from images (N, C, H, W) to logits (N, K).
        batches: training batches (x, y); the labels are not used.
        sites: all filter sites or all block sites of the model.
        images: how many are looked at; None for all.
    """
    return of_maps(model, batches, sites, images, lambda maps: maps.abs().mean((2, 3)))
