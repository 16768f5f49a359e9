"""A network's outputs without one unit at a time: many units and images share a forward pass.

What lies before the unit is computed once. An image in which the unit's map is zero everywhere is
not computed: nothing changes without it.

A filter is silenced where the next layer reads it, a block by a branch of zeros.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from advprune.sites import BlockSite, FilterSite

#: Images whose maps before the unit are at hand at once.
IMAGES = 32
#: Bytes of a map that a core works on at once: a few of them fit into its own cache.
CACHED = 2**20


class _Reached(Exception):  # noqa: N818 - not an error: what comes after is not wanted
    """Signal that a forward pass has come to the unit."""


class _Later(Tensor):
    """Stand for rows of a tensor that are copied only if something computes with them."""

    make: Callable[[], Tensor]

    @classmethod
    def of(cls, make: Callable[[], Tensor]) -> Tensor:
        """Return a stand-in for what ``make`` returns."""
        later = Tensor._make_subclass(cls, torch.empty(0))
        later.make = make
        return later

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute with the rows."""

        def now(value: object) -> object:
            return value.make() if isinstance(value, cls) else value

        with torch._C.DisableTorchFunctionSubclass():
            return func(*tree_map(now, args), **tree_map(now, kwargs or {}))


def ablated_outputs(
    model: nn.Module,
    x: Tensor,
    site: FilterSite | BlockSite,
    whole: Tensor,
    *,
    at_once: int,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the outputs without each filter of a site, or without a block: (units, N, ...).

    Args:
        model: frozen, in eval mode, and called without a graph.
        x: images (N, C, H, W).
        site: the filters or the block to leave out.
        whole: the outputs with all units (N, ...).
        at_once: images in one pass at most, one image without different units counted each.
        forward: images -> outputs, which calls the model; None: the model itself.
    """
    size = len(x) if x.is_cuda else IMAGES
    parts = [
        _of_part(model, forward or model, part, known, site, at_once)
        for part, known in zip(x.split(size), whole.split(size), strict=True)
    ]
    return torch.cat(parts, 1)


def _of_part(
    model: nn.Module,
    forward: Callable[[Tensor], Tensor],
    x: Tensor,
    whole: Tensor,
    site: FilterSite | BlockSite,
    at_once: int,
) -> Tensor:
    """Return the outputs of some images, of which the maps before the unit fit into memory."""
    filters = isinstance(site, FilterSite)
    place = site.gate if isinstance(site, FilterSite) else site.branch
    cached = _until(model, x, place)
    maps = cached.pop(place)
    units = maps.shape[1] if filters else 1
    outputs = whole.expand(units, *whole.shape).clone()
    alive = maps.reshape(len(x), units, -1).any(2).mT.nonzero()
    for pairs in alive.split(_fitting(maps, at_once)):
        unit, image = pairs.unbind(1)
        silent = _rows(maps, image)
        silent[torch.arange(len(image), device=x.device), unit if filters else slice(None)] = 0
        with _replayed(model, cached, image, {place: silent}):
            outputs[unit, image] = forward(_rows(x, image))
    return outputs


def _fitting(maps: Tensor, at_once: int) -> int:
    """Return how many images' maps are computed at once: what a processor's caches hold."""
    if maps.is_cuda:
        return at_once
    fitting = CACHED * torch.get_num_threads() // (maps[0].numel() * maps.element_size())
    return max(min(fitting, at_once), 1)


def _rows(tensor: Tensor, rows: Tensor) -> Tensor:
    """Return copies of some images' maps, in the memory format that convolutions are fast in."""
    if tensor.dim() != 4:
        return tensor[rows]
    return tensor.permute(0, 2, 3, 1)[rows].permute(0, 3, 1, 2)


def _until(model: nn.Module, x: Tensor, place: str) -> dict[str, Tensor]:
    """Return the outputs of the outermost modules that end before ``place``, and its own."""
    cached: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, args: object, out: Tensor) -> None:
        for inner in [other for other in cached if other.startswith(f"{name}.")]:
            del cached[inner]
        cached[name] = out
        if name == place:
            raise _Reached

    handles = [
        module.register_forward_hook(partial(note, name))
        for name, module in model.named_modules()
        if name
    ]
    try:
        model(x)
    except _Reached:
        return cached
    finally:
        for handle in handles:
            handle.remove()
    raise AssertionError(place)


@contextmanager
def _replayed(
    model: nn.Module, cached: dict[str, Tensor], rows: Tensor, silent: dict[str, Tensor]
) -> Iterator[None]:
    """Let modules return what is at hand, without computing: their outputs for some images."""
    answers = {name: _Later.of(partial(_rows, out, rows)) for name, out in cached.items()} | silent
    modules = [model.get_submodule(name) for name in answers]
    try:
        for module, answer in zip(modules, answers.values(), strict=True):
            module.forward = partial(_answer, answer)
        yield
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)


def _answer(answer: Tensor, *_: object) -> Tensor:
    """Return the answer, whatever is asked."""
    return answer
