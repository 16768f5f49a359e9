"""Random filters or blocks: the baseline every criterion must beat; uniform scores."""

import torch
from torch import nn

from advprune.masks import Scores
from advprune.pruners.criteria.feature_maps import Batches, Sites
from advprune.ranges import Seed
from advprune.sites import FilterSite


def random(model: nn.Module, batches: Batches, *, sites: Sites, seed: Seed) -> Scores:
    """Score filters or blocks by numbers drawn uniformly from [0, 1).

    Args:
        model: a network.
        batches: not read.
        sites: all filter sites or all block sites of the model.
        seed: fixes the scores; the global generator is not used.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        site.name: torch.rand(
            (model.get_parameter(f"{site.conv}.weight").shape[0],)
            if isinstance(site, FilterSite)
            else (),
            generator=generator,
        )
        for site in sites
    }
