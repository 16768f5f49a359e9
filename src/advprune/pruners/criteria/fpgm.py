"""Geometric median: the filter nearest to all others goes first (FPGM, He et al. 2019).

https://arxiv.org/abs/1811.00250

The score is the sum of Euclidean distances to the other filters of the layer, the paper's criterion
itself.
"""

import torch
from torch import nn

from advprune.masks import Scores
from advprune.pruners.criteria.feature_maps import Batches, Sites, of_weights


def fpgm(model: nn.Module, batches: Batches, *, sites: Sites) -> Scores:
    """Score filters or blocks; larger = keep. ``batches`` is not read."""
    return of_weights(
        model, sites, lambda weight: torch.cdist(weight.flatten(1), weight.flatten(1)).sum(1)
    )
