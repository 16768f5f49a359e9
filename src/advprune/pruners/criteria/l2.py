"""L2 norm of a filter's weights (soft filter pruning, He et al. 2018).

https://arxiv.org/abs/1808.06866
"""

from torch import nn

from advprune.masks import Scores
from advprune.pruners.criteria.feature_maps import Batches, Sites, of_weights


def l2(model: nn.Module, batches: Batches, *, sites: Sites) -> Scores:
    """Score filters or blocks; larger = keep. ``batches`` is not read."""
    return of_weights(model, sites, lambda weight: weight.flatten(1).norm(dim=1))
