"""Taylor: |activation x gradient|, the first-order change of the loss (Molchanov et al. 2017).

https://arxiv.org/abs/1611.06440

A filter is judged at its map after the first activation, a block at its branch. As in the paper the
product is averaged over a map's pixels before the absolute value, then over images; unlike there,
layers are not rescaled to unit norm unless ``normalise`` is set, so that a layer's own order is the
same either way.
"""

import torch
from torch import Tensor, nn

from advprune.frozen import frozen
from advprune.logits import cross_entropy
from advprune.masks import Scores
from advprune.pruners.criteria.feature_maps import Batches, Sites, limited, watched
from advprune.ranges import Count
from advprune.sites import FilterSite


def taylor(
    model: nn.Module,
    batches: Batches,
    *,
    sites: Sites,
    images: Count | None = 1000,
    normalise: bool = True,
) -> Scores:
    """Score filters or blocks; larger = keep.

    Args:
        model: a network from images (N, C, H, W) to logits (N, K).
        batches: training batches (x, y).
        sites: all filter sites or all block sites of the model.
        images: how many are looked at; None for all.
        normalise: divide each layer's scores by their L2 norm, as the paper does before it compares
            layers.
    """
    places = {site.active if isinstance(site, FilterSite) else site.branch: site for site in sites}
    sums: dict[str, Tensor] = {}
    for x, y in limited(batches, images):
        maps: dict[str, Tensor] = {}
        with frozen(model), watched(model, list(places), maps), torch.enable_grad():
            loss = cross_entropy(model(x.detach().requires_grad_(True)), y).sum()
            grads = torch.autograd.grad(loss, [maps[place] for place in places])
        for (place, site), grad in zip(places.items(), grads, strict=True):
            change = (maps[place].detach() * grad).mean((2, 3)).abs().double().sum(0)
            sums[site.name] = sums.get(site.name, torch.zeros_like(change)) + change
    if not isinstance(sites[0], FilterSite):
        return {name: value.mean() for name, value in sums.items()}
    return {
        name: value / value.norm().clamp_min(1e-30) if normalise else value
        for name, value in sums.items()
    }
