"""Criteria that break the contract, or that a forgetful round could not survive; named by tests as a ``_target_``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from advprune.masks import Masks, Scores, prunable

#: What ``smallest`` saw removed, call by call, while somebody listens.
_LISTENERS: list[Callable[[Masks], None]] = []


@contextmanager
def heard() -> Iterator[list[Masks]]:
    """Within this, the zeros that each call of ``smallest`` found."""
    seen: list[Masks] = []
    _LISTENERS.append(seen.append)
    try:
        yield seen
    finally:
        _LISTENERS.remove(seen.append)


def smallest(model: nn.Module, batches: Any) -> Scores:
    """Keep the smallest weights: what a round before removed, now zero, ranks above all else if it is forgotten."""
    weights = prunable(model)
    for listener in _LISTENERS:
        listener({name: weight.detach() == 0 for name, weight in weights.items()})
    return {name: -weight.detach().abs() for name, weight in weights.items()}


def zeroes_and_nan(model: nn.Module, batches: Any) -> Scores:
    """A SNIP gone wrong."""
    with torch.no_grad():
        next(iter(prunable(model).values())).zero_()
    return {name: torch.full_like(weight, torch.nan) for name, weight in prunable(model).items()}


def nan(model: nn.Module, batches: Any) -> Scores:
    """Half of one layer's scores are not numbers."""
    scores = smallest(model, batches)
    first: Tensor = next(iter(scores.values())).view(-1)
    first[: len(first) // 2] = torch.nan
    return scores


def infinite(model: nn.Module, batches: Any) -> Scores:
    """One score is infinite."""
    scores = smallest(model, batches)
    next(iter(scores.values())).view(-1)[0] = torch.inf
    return scores


def zeroes(model: nn.Module, batches: Any) -> Scores:
    """A layer is left at zero."""
    scores = smallest(model, batches)
    with torch.no_grad():
        next(iter(prunable(model).values())).zero_()
    return scores


def trains(model: nn.Module, batches: Any) -> Scores:
    """The mode is left at training."""
    model.train()
    return smallest(model, batches)


def freezes(model: nn.Module, batches: Any) -> Scores:
    """Flags are left."""
    model.requires_grad_(False)
    return smallest(model, batches)


def gradients(model: nn.Module, batches: Any) -> Scores:
    """Gradients are left."""
    for x, _ in batches:
        model(x).sum().backward()
        break
    return smallest(model, batches)


def statistics(model: nn.Module, batches: Any) -> Scores:
    """BatchNorm's statistics are moved."""
    for x, _ in batches:
        model.train()
        model(x)
        model.eval()
        break
    return smallest(model, batches)


def one_short(model: nn.Module, batches: Any) -> Scores:
    """One layer has no score."""
    scores = smallest(model, batches)
    scores.pop(next(iter(scores)))
    return scores


def flat(model: nn.Module, batches: Any) -> Scores:
    """One layer's scores have another shape."""
    scores = smallest(model, batches)
    name = next(iter(scores))
    return scores | {name: scores[name].flatten()}
