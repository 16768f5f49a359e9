"""HRank: the mean rank of a filter's maps after the activation (Lin et al. 2020).

https://arxiv.org/abs/2002.10179

A block's score is divided by the larger side of its map. How ranks are counted: ``matrix_rank.py``.
"""

from torch import Tensor, nn

from advprune.masks import Scores
from advprune.pruners.criteria.feature_maps import Batches, Sites, of_maps
from advprune.pruners.criteria.matrix_rank import ranks
from advprune.ranges import Count
from advprune.sites import BlockSite


def hrank(
    model: nn.Module, batches: Batches, *, sites: Sites, images: Count | None = 500
) -> Scores:
    """Score filters or blocks; larger = keep.

    Args:
        model: a network from images (N, C, H, W) to logits (N, K).
        batches: training batches (x, y); the labels are not used.
        sites: all filter sites or all block sites of the model.
        images: how many are looked at; None for all.
    """

    def measure(maps: Tensor) -> Tensor:
        values = ranks(maps)
        return values / max(maps.shape[-2:]) if isinstance(sites[0], BlockSite) else values

    return of_maps(model, batches, sites, images, measure) if sites else {}
