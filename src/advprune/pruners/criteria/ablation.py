"""A network's outputs without one unit at a time: many units share one forward pass.

What lies before the unit is computed once. A filter is silenced where the next layer reads it, a
block by a branch of zeros.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from advprune.frozen import hooked
from advprune.sites import BlockSite, FilterSite


def ablated_outputs(
    model: nn.Module, x: Tensor, site: FilterSite | BlockSite, copies: int
) -> Iterator[Tensor]:
    """Yield the outputs without each filter of a site, or without a block: (units, N, ...).

    Args:
        x: images (N, C, H, W).
        site: the filters or the block to leave out.
        model: frozen, in eval mode, and called without a graph.
        copies: units in one pass, at most.
    """
    place = site.gate if isinstance(site, FilterSite) else site.branch
    cached, width = _until(model, x, place)
    units = list(range(width)) if isinstance(site, FilterSite) else [slice(None)]
    for start in range(0, len(units), copies):
        chosen = units[start : start + copies]

        def silence(module: nn.Module, args: object, out: Tensor, chosen: list = chosen) -> Tensor:  # type: ignore[type-arg]
            out = out.clone()
            for part, unit in zip(out.chunk(len(chosen)), chosen, strict=True):
                part[:, unit] = 0
            return out

        many = len(chosen)
        hook = model.get_submodule(place).register_forward_hook(silence)
        with hooked([hook]), _replayed(model, cached, many):
            after = model(x.repeat(many, 1, 1, 1))
        yield after.unflatten(0, (many, len(x)))


def _until(model: nn.Module, x: Tensor, place: str) -> tuple[dict[str, Tensor], int]:
    """Return the outputs of the outermost modules that end before ``place``, and its channels."""
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
            for part in [other for other in cached if other.startswith(f"{name}.")]:
                del cached[part]
            cached[name] = out

        return note

    inner = [(name, module) for name, module in model.named_modules() if name]
    with hooked([module.register_forward_hook(finished(name)) for name, module in inner]):
        model(x)
    return cached, width


@contextmanager
def _replayed(model: nn.Module, cached: dict[str, Tensor], copies: int) -> Iterator[None]:
    """Let the cached modules return their outputs without computing, ``copies`` times over."""

    def answer(out: Tensor):  # type: ignore[no-untyped-def]
        return lambda *args: out.repeat(copies, *[1] * (out.ndim - 1))

    modules = [model.get_submodule(name) for name in cached]
    try:
        for module, out in zip(modules, cached.values(), strict=True):
            module.forward = answer(out)
        yield
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)
