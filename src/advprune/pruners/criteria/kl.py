"""KL: how far the predictions move without a filter or block (CURL, Luo and Wu 2020).

https://arxiv.org/abs/1911.11284

The score is the mean over images of KL(q || p), p the network's softmax and q that with the unit
silenced. Unlike the authors' code no softmax is taken twice.
"""

import torch
from torch import Tensor, nn

from advprune.frozen import frozen
from advprune.masks import Scores
from advprune.pruners.criteria.ablation import ablated_outputs
from advprune.pruners.criteria.feature_maps import Batches, Sites, limited
from advprune.ranges import Count
from advprune.sites import FilterSite


def kl(
    model: nn.Module,
    batches: Batches,
    *,
    sites: Sites,
    images: Count | None = 256,
    at_once: Count = 2048,
) -> Scores:
    """Score filters or blocks; larger = keep.

    Args:
        model: a network from images (N, C, H, W) to logits (N, K).
        batches: training batches (x, y); the labels are not used.
        sites: all filter sites or all block sites of the model.
        images: how many are looked at; None for all.
        at_once: images in one pass, copies of one image with different units silenced counted each.
    """
    sums: dict[str, Tensor] = {}
    count = 0
    for x, _ in limited(batches, images):
        count += len(x)
        x = x.contiguous(memory_format=torch.channels_last)
        with frozen(model), torch.no_grad():
            logits = model(x)
            for site in sites:
                after = ablated_outputs(model, x, site, logits, at_once=at_once)
                moved = _moved(after, logits.log_softmax(1))
                sums[site.name] = sums.get(site.name, torch.zeros_like(moved)) + moved
    return {
        name: (value if value.numel() > 1 or isinstance(sites[0], FilterSite) else value.squeeze())
        / count
        for name, value in sums.items()
    }


def divergence(q: Tensor, p: Tensor) -> Tensor:
    """Return KL(q || p) of each row of log-probabilities (N, K), in nats: (N,)."""
    return (q.exp() * (q - p)).sum(1)


def _moved(after: Tensor, before: Tensor) -> Tensor:
    """Sum the divergence over images: logits (units, N, K), log p (N, K) -> (units,)."""
    divergences = divergence(after.log_softmax(2).flatten(0, 1), before.repeat(len(after), 1))
    return divergences.reshape(len(after), -1).double().sum(1)
