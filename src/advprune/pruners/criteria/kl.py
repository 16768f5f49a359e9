"""KL (CURL, Luo and Wu 2020, https://arxiv.org/abs/1911.11284): how far the predictions move without a filter or block.

The score is the mean over images of KL(q || p), p the network's softmax and q that with the unit silenced. A filter is
silenced where the next layer reads it, a block by a branch of zeros. Unlike the authors' code no softmax is taken
twice, what lies before the unit is computed once, and several units share one pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from advprune.frozen import frozen
from advprune.masks import Scores
from advprune.pruners.criteria.sight import Batches, Sites, limited
from advprune.sites import BlockSite, FilterSite


def kl(model: nn.Module, batches: Batches, *, sites: Sites, images: int | None = 256, at_once: int = 2048) -> Scores:
    """Score filters or blocks; larger = keep.

    Args:
        sites: all filter sites or all block sites of the model.
        images: how many are looked at; None for all.
        at_once: images in one pass, copies of one image with different units silenced counted each.
    """
    sums: dict[str, Tensor] = {}
    seen = 0
    for x, _ in limited(batches, images):
        seen += len(x)
        with frozen(model), torch.no_grad():
            before = model(x).log_softmax(1)
            for site in sites:
                moved = _moved(model, x, before, site, max(at_once // len(x), 1))
                sums[site.name] = sums.get(site.name, torch.zeros_like(moved)) + moved
    return {name: (value if value.numel() > 1 or isinstance(sites[0], FilterSite) else value.squeeze()) / seen
            for name, value in sums.items()}  # fmt: skip


def divergence(q: Tensor, p: Tensor) -> Tensor:
    """KL(q || p) of each row of log-probabilities (N, K), in nats."""
    return (q.exp() * (q - p)).sum(1)


def _moved(model: nn.Module, x: Tensor, before: Tensor, site: FilterSite | BlockSite, copies: int) -> Tensor:
    """The summed divergence over images for each filter of a site (F,), or for a block (1,)."""
    place = site.gate if isinstance(site, FilterSite) else site.branch
    cached, width = _until(model, x, place)
    units = list(range(width)) if isinstance(site, FilterSite) else [slice(None)]
    scores = []
    for start in range(0, len(units), copies):
        chosen = units[start : start + copies]

        def silence(module: nn.Module, args: object, out: Tensor, chosen: list = chosen) -> Tensor:  # type: ignore[type-arg]
            out = out.clone()
            for part, unit in zip(out.chunk(len(chosen)), chosen, strict=True):
                part[:, unit] = 0
            return out

        many = len(chosen)
        handle = model.get_submodule(place).register_forward_hook(silence)
        try:
            with _replayed(model, cached, many):
                after = model(x.repeat(many, 1, 1, 1)).log_softmax(1)
        finally:
            handle.remove()
        scores.append(divergence(after, before.repeat(many, 1)).reshape(many, -1).double().sum(1))
    return torch.cat(scores)


def _until(model: nn.Module, x: Tensor, place: str) -> tuple[dict[str, Tensor], int]:
    """The outputs of the outermost modules that are done before ``place`` is, and the channels of its output."""
    cached: dict[str, Tensor] = {}
    width = 0

    def finished(name: str):  # type: ignore[no-untyped-def]
        def note(module: nn.Module, args: object, out: Tensor) -> None:
            nonlocal width
            if width:
                return
            if name == place:
                width = out.shape[1]
                return
            for inner in [other for other in cached if other.startswith(f"{name}.")]:
                del cached[inner]
            cached[name] = out

        return note

    handles = [module.register_forward_hook(finished(name)) for name, module in model.named_modules() if name]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return cached, width


@contextmanager
def _replayed(model: nn.Module, cached: dict[str, Tensor], copies: int) -> Iterator[None]:
    """Let the cached modules answer at once, ``copies`` times over."""

    def answer(out: Tensor):  # type: ignore[no-untyped-def]
        return lambda *args: out.repeat(copies, *[1] * (out.ndim - 1))

    modules = [model.get_submodule(name) for name in cached]
    try:
        for module, out in zip(modules, cached.values(), strict=True):
            module.forward = answer(out)  # type: ignore[method-assign]
        yield
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)
