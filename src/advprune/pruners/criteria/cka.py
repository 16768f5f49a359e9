"""CKA: how far the last features move without a filter or block (Pons et al. 2024).

https://arxiv.org/abs/2405.17081

The score is 1 - linear CKA (Kornblith et al. 2019, https://arxiv.org/abs/1905.00414) of what the
classifier reads, with the unit and with it silenced.
"""

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.masks import Scores
from advprune.pruners.criteria.ablation import ablated_outputs
from advprune.pruners.criteria.feature_maps import Batches, Sites, limited
from advprune.ranges import Count
from advprune.sites import FilterSite


def cka(
    model: nn.Module,
    batches: Batches,
    *,
    sites: Sites,
    images: Count | None = 256,
    at_once: Count = 2048,
) -> Scores:
    """Score filters or blocks; larger = keep.

    Args:
        model: a network whose last layer is linear.
        batches: training batches (x, y); the labels are not used.
        sites: all filter sites or all block sites of the model.
        images: how many are looked at, all of them at once; None for all.
        at_once: images in one pass, copies of one image with different units silenced counted each.

    Raises:
        UserError: if the model has no linear layer, whose inputs are its features.
    """
    x = torch.cat([part for part, _ in limited(batches, images)])
    x = x.contiguous(memory_format=torch.channels_last)
    readers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not readers:
        raise UserError(
            f"pruner/criterion=cka needs a linear classifier, and this {type(model).__name__} has "
            "none"
        )
    read: list[Tensor] = []
    handle = readers[-1].register_forward_pre_hook(
        lambda module, args: read.append(args[0].flatten(1))
    )

    def features(part: Tensor) -> Tensor:
        model(part)
        return read.pop()

    scores: Scores = {}
    try:
        with frozen(model), torch.no_grad():
            whole = features(x)
            for site in sites:
                after = ablated_outputs(model, x, site, whole, at_once=at_once, forward=features)
                distances = torch.stack([1 - linear_cka(whole, part) for part in after])
                scores[site.name] = distances if isinstance(site, FilterSite) else distances[0]
    finally:
        handle.remove()
    return scores


def linear_cka(a: Tensor, b: Tensor) -> Tensor:
    """Return the linear CKA of two feature sets of the same images: a float64 scalar in [0, 1].

    1 for features that are one another turned and scaled; 0 where one of them does not vary.

    Args:
        a: features (N, D).
        b: features (N, E).
    """
    a, b = (features.double() - features.double().mean(0) for features in (a, b))
    size = (a.mT @ a).norm() * (b.mT @ b).norm()
    return (a.mT @ b).square().sum() / size if size > 0 else torch.zeros_like(size)
