"""How a ratio is spread over the tensors: the same in each, over all at once, or by ERK."""

from fractions import Fraction
from math import floor, prod
from typing import Literal

import torch
from torch import Tensor

from advprune.errors import UserError
from advprune.masks import Masks, Scores, check_ratio, keep_count, top_k

Scope = Literal["layer", "global", "erk"]


def layer(scores: Scores, ratio: float) -> Masks:
    """Remove the share ``ratio`` of each tensor, never all; ``masks.keep_count`` has the count."""
    check_ratio(ratio)
    return {
        name: _top_k(name, score, keep_count(score.numel(), ratio))
        for name, score in scores.items()
    }


def global_(scores: Scores, ratio: float) -> Masks:
    """Remove the share ``ratio`` of all weights together, but leave each tensor its best one.

    The lowest scores go first.

    The total is exact. Wherever plain global ranking empties no tensor, this equals it.

    Raises:
        UserError: if ``ratio`` is not in [0, 1) or leaves fewer weights than there are tensors.
    """
    total = _total(scores, ratio)
    best = {
        name: int(_top_k(name, score, 1).reshape(-1).nonzero()) for name, score in scores.items()
    }
    others = torch.cat(
        [part for name, score in scores.items() for part in _around(score.detach(), best[name])]
    )
    kept = top_k(others, total - len(scores)).split(
        [score.numel() - 1 for score in scores.values()]
    )
    masks = {}
    for (name, score), part in zip(scores.items(), kept, strict=True):
        at = best[name]
        masks[name] = torch.cat([part[:at], part.new_ones(1), part[at:]]).reshape(score.shape)
    return masks


def _around(score: Tensor, at: int) -> tuple[Tensor, Tensor]:
    flat = score.reshape(-1)
    return flat[:at], flat[at + 1 :]


def erk(scores: Scores, ratio: float) -> Masks:
    """Spread the ratio by Erdős–Rényi-Kernel densities, ∝ sum(dims) / prod(dims).

    Evci et al. 2020, https://arxiv.org/abs/1911.11134.

    Tensors whose share would pass 1 stay dense; the total over all is exact and no tensor is
    emptied. Whole weights are dealt by Jefferson's method, so that a higher ratio never gives any
    tensor more.

    Raises:
        UserError: if ``ratio`` is not in [0, 1) or leaves fewer weights than there are tensors.
    """
    counts = _erk_counts([tuple(score.shape) for score in scores.values()], _total(scores, ratio))
    return {
        name: _top_k(name, score, count)
        for (name, score), count in zip(scores.items(), counts, strict=True)
    }


def spend(scores: Scores, ratio: float, *, scope: Scope, within: Masks | None = None) -> Masks:
    """Return the masks that remove ``ratio`` by the named scope.

    Args:
        scope: ``layer``, ``global`` or ``erk``.
        scores: importance per prunable weight, larger = keep.
        ratio: share removed of all the weights scored, in [0, 1); cumulative over rounds.
        within: masks of an earlier round, or of a network that was sparse before; what they removed
            stays removed.

    Raises:
        UserError: if the scope has no such name, or the ratio cannot be spent, or not ``within``
            what is left.
    """
    scopes = {"layer": layer, "global": global_, "erk": erk}
    if scope not in scopes:
        raise UserError(
            f"scope={scope!r} is not one of {', '.join(scopes)}; write for example "
            "pruner.scope=layer"
        )
    if within is None:
        return scopes[scope](scores, ratio)
    lowered = {
        name: score.detach().masked_fill(~within[name], -torch.inf)
        for name, score in scores.items()
    }
    masks = scopes[scope](lowered, ratio)
    for name, mask in masks.items():
        if (mask & ~within[name]).any():
            raise UserError(
                f"ratio={ratio:g} by scope={scope} keeps {int(mask.sum())} of the {mask.numel()} "
                f"weights of {name}, and {int(within[name].sum())} are left of it: what is gone "
                "does not come back; give a larger ratio, or another pruner.scope, such as global"
            )
    return masks


def _top_k(name: str, score: Tensor, k: int) -> Tensor:
    try:
        return top_k(score, k)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _total(scores: Scores, ratio: float) -> int:
    total = keep_count(size := sum(score.numel() for score in scores.values()), ratio)
    if total < len(scores):
        raise UserError(
            f"ratio={ratio} keeps {total} of {size} weights, too few for one in each of "
            f"{len(scores)} tensors; lower ratio to at most {1 - len(scores) / size:.6g}"
        )
    return total


def _erk_counts(shapes: list[tuple[int, ...]], total: int) -> list[int]:
    """Distribute ``total`` weights in proportion to sum(shape), 1 to prod(shape) each.

    Exact, in rationals.
    """
    sizes, dims = [prod(shape) for shape in shapes], [sum(shape) for shape in shapes]

    def shares(rate: Fraction) -> list[Fraction]:
        return [
            min(max(rate * dim, Fraction(1)), Fraction(size))
            for size, dim in zip(sizes, dims, strict=True)
        ]

    # sum(shares(rate)) is piecewise linear; its corners are where a tensor leaves its minimum or
    # fills up
    corners = sorted(
        {Fraction(1, dim) for dim in dims}
        | {Fraction(s, d) for s, d in zip(sizes, dims, strict=True)}
    )
    rate = max(corner for corner in corners if sum(shares(corner)) <= total)
    growing = sum(dim for size, dim in zip(sizes, dims, strict=True) if 1 <= rate * dim < size)
    if growing:
        rate += (total - sum(shares(rate), Fraction())) / growing
    counts = [floor(share) for share in shares(rate)]
    while sum(counts) < total:  # fewer than len(shapes) rounds: only fractions are left to deal
        open_ = [i for i, count in enumerate(counts) if count < sizes[i]]
        counts[min(open_, key=lambda i: Fraction(counts[i] + 1, dims[i]))] += 1
    return counts
