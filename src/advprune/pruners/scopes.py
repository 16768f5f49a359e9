"""Spend a ratio on the tensors of a network by a named layout; what each does: docs/scopes.md."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch

from advprune.errors import UserError
from advprune.masks import Masks, Scores, check_ratio, keep_count, largest
from advprune.pruners.layouts.columns import columns
from advprune.pruners.layouts.erk import erk
from advprune.pruners.layouts.igq import igq
from advprune.pruners.layouts.lamp import lamp
from advprune.pruners.layouts.n_of_m import n_of_m
from advprune.pruners.layouts.ranked import global_, normed

Scope = Literal["layer", "global", "erk", "igq", "lamp", "normed", "columns", "nm"]


def spend(
    scores: Scores,
    ratio: float,
    *,
    scope: Scope,
    within: Masks | None = None,
    n: int | None = None,
    m: int | None = None,
) -> Masks:
    """Return the masks that remove ``ratio`` by the named scope.

    Args:
        scores: importance per prunable weight, larger = keep.
        ratio: share removed of all the weights scored, in [0, 1); cumulative over rounds.
        scope: name of the layout.
        within: masks of an earlier round, or of a network that was sparse before; what they removed
            stays removed.
        n: kept of each group, by scope ``nm`` alone.
        m: size of its groups.

    Raises:
        UserError: if the scope has no such name, or the ratio cannot be spent, or not ``within``
            what is left.
    """
    scopes: dict[str, Callable[[Scores, float], Masks]] = {
        "layer": layer,
        "global": global_,
        "erk": erk,
        "igq": igq,
        "lamp": lamp,
        "normed": normed,
        "columns": columns,
        "nm": partial(n_of_m, n=n, m=m),
    }
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
    _refuse_revived(masks, within, f"ratio={ratio:g} by scope={scope}")
    return masks


def layer(scores: Scores, ratio: float) -> Masks:
    """Remove the share ``ratio`` of each tensor, never all; ``masks.keep_count`` has the count."""
    check_ratio(ratio)
    return largest(scores, [keep_count(score.numel(), ratio) for score in scores.values()])


def _refuse_revived(masks: Masks, within: Masks, what: str) -> None:
    """Check that nothing stays which was gone before.

    Raises:
        UserError: naming the tensor that would need it.
    """
    for name, mask in masks.items():
        if (mask & ~within[name]).any():
            raise UserError(
                f"{what} keeps {int(mask.sum())} of the {mask.numel()} weights of {name}, and "
                f"{int(within[name].sum())} are left of it: what is gone does not come back; give "
                "a larger ratio, or another pruner.scope, such as global"
            )
