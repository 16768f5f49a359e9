"""What criteria of filters and blocks share: scores from weights, and from feature maps."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.masks import Scores
from advprune.sites import BlockSite, FilterSite

Sites = Sequence[FilterSite] | Sequence[BlockSite]
Batches = Iterable[tuple[Tensor, Tensor]]


def of_weights(model: nn.Module, sites: Sites, measure: Callable[[Tensor], Tensor]) -> Scores:
    """Score filters or blocks from their weights alone.

    Args:
        model: a network.
        sites: all filter sites or all block sites of the model.
        measure: a convolution's weight (F, I, H, W) -> (F,).

    Returns:
        Of filters (F,) per site; of a block a scalar, the sum over its convolutions of the mean
        over their filters.
    """

    def filters(conv: str) -> Tensor:
        weight = model.get_submodule(conv).weight
        assert isinstance(weight, Tensor)
        return measure(weight.detach())

    return {
        site.name: filters(site.conv)
        if isinstance(site, FilterSite)
        else torch.stack([filters(conv).mean() for conv in site.convs]).sum()
        for site in sites
    }


def of_maps(
    model: nn.Module,
    batches: Batches,
    sites: Sites,
    images: int | None,
    measure: Callable[[Tensor], Tensor],
) -> Scores:
    """Score filters or blocks by the mean over images of a measure of each map.

    Looks at a filter's map after its first activation, and at a block's sum after a ReLU.

    Args:
        model: a network from images (N, C, H, W) to logits (N, K).
        batches: training batches (x, y); the labels are not used.
        sites: all filter sites or all block sites of the model.
        images: how many are looked at; None for all.
        measure: maps >= 0 or after ReLU6 (N, C, H, W) -> (N, C).

    Returns:
        Of filters (C,) per site; of a block a scalar, the mean over channels.
    """
    sums: dict[str, Tensor] = {}
    count = 0
    names = {site.active if isinstance(site, FilterSite) else site.name: site for site in sites}
    for x, _ in limited(batches, images):
        count += len(x)
        for place, out in outputs(model, x, list(names)).items():
            site = names[place]
            value = measure(out if isinstance(site, FilterSite) else out.relu()).double().sum(0)
            sums[site.name] = sums.get(site.name, torch.zeros_like(value)) + value
    return {
        site.name: sums[site.name] / count
        if isinstance(site, FilterSite)
        else (sums[site.name] / count).mean()
        for site in sites
    }


def outputs(model: nn.Module, x: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Return the named modules' outputs in one forward pass in eval mode, without a graph."""
    recorded: dict[str, Tensor] = {}
    with watched(model, names, recorded), frozen(model), torch.no_grad():
        model(x)
    return recorded


@contextmanager
def watched(model: nn.Module, names: list[str], recorded: dict[str, Tensor]) -> Iterator[None]:
    """Record the named modules' outputs in ``found`` while the context lasts."""

    def keep(name: str) -> Any:
        return lambda module, args, out: recorded.__setitem__(name, out)

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def limited(batches: Batches, images: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches up to ``images`` images in all, the last batch cut.

    Raises:
        UserError: if there is none.
    """
    count = 0
    for x, y in batches:
        take = len(x) if images is None else min(len(x), images - count)
        if take > 0:
            yield x[:take], y[:take]
        count += take
        if images is not None and count >= images:
            return
    if count == 0:
        raise UserError(
            f"this criterion needs images and got {count}; give pruner.criterion.images of at "
            "least 1"
        )
