"""Batch-norm scale: |gamma| of each filter (network slimming, Liu et al. 2017).

https://arxiv.org/abs/1708.06519

Without the paper's sparsity penalty in training unless the objective has one. A block scores the
mean over its last BatchNorm's channels.
"""

from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import Scores
from advprune.pruners.criteria.feature_maps import Batches, Sites
from advprune.sites import FilterSite


def bn_scale(model: nn.Module, batches: Batches, *, sites: Sites) -> Scores:
    """Score filters or blocks; larger = keep. ``batches`` is not read.

    Raises:
        UserError: if a site has no BatchNorm.
    """
    scores = {}
    for site in sites:
        if site.norm is None:
            raise UserError(
                f"{site.name} has no BatchNorm behind it, so criterion=bn_scale cannot score it; "
                "choose pruner/criterion=l1 or another model"
            )
        gamma = model.get_submodule(site.norm).weight
        assert isinstance(gamma, Tensor)
        scores[site.name] = (
            gamma.detach().abs() if isinstance(site, FilterSite) else gamma.detach().abs().mean()
        )
    return scores
