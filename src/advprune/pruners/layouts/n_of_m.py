"""Keep N of every M weights that lie side by side along the input channels (N:M, such as 2:4)."""

from itertools import combinations
from typing import Annotated, TypeAlias

import torch
from annotated_types import Ge, Le
from torch import Tensor

from advprune.errors import UserError
from advprune.masks import Masks, Scores, check_ratio
from advprune.pruners.layouts.checks import refuse_nan

#: N and M of N:M.
Kept: TypeAlias = Annotated[int, Ge(1), Le(31)]
Group: TypeAlias = Annotated[int, Ge(2), Le(32)]


def n_of_m(scores: Scores, ratio: float, *, n: int | None, m: int | None) -> Masks:
    """Keep the ``n`` largest of each ``m`` scores, and all of a tensor that cannot be grouped.

    A group is ``m`` input channels in a row, for one filter and one position of its kernel. Of
    equal scores the lower channel's stays.

    Args:
        scores: importance per weight, (out, in, height, width) or (out, in).
        ratio: has to be 1 - n / m, the share removed of what can be grouped.
        n: kept of each group, from 1 to m - 1.
        m: size of a group, from 2 to 32.

    Raises:
        UserError: if ``n``, ``m`` or ``ratio`` is not one of those above, or no tensor can be
            grouped.
    """
    check_ratio(ratio)
    n, m = checked(ratio, n, m)
    refuse_nan(scores)
    if not any(divides(score, m) for score in scores.values()):
        raise UserError(
            f"scope=nm finds no layer whose input channels {m} divides; give a smaller pruner.m, "
            "or another pruner.scope"
        )
    masks = {}
    for name, score in scores.items():
        left = score.detach() != -torch.inf  # an earlier round, or the parent, removed the others
        masks[name] = _best_of_groups(score.detach(), n, m) if divides(score, m) else left
        if (masks[name] & ~left).any():
            raise UserError(
                f"scope=nm cannot keep {n} of every {m} weights of {name}: groups of it have fewer "
                "left, and what is gone does not come back; give another pruner.scope, or a "
                "network that was not pruned before"
            )
    return masks


def checked(ratio: float, n: int | None, m: int | None) -> tuple[int, int]:
    """Return n and m, if they are given and are the ratio's.

    Raises:
        UserError: with the ratio or the words that fit.
    """
    if n is None or m is None or not 1 <= n < m <= 32:
        raise UserError(
            f"scope=nm keeps pruner.n of every pruner.m weights, 1 <= n < m <= 32, not n={n} of "
            f"m={m}; give for example pruner.n=2 pruner.m=4 ratio=0.5"
        )
    if abs(ratio - (1 - n / m)) > 1e-9:
        raise UserError(
            f"ratio={ratio:.10g} is not what scope=nm removes with pruner.n={n} and pruner.m={m}, "
            f"which is 1 - n/m: give ratio={1 - n / m:.10g}"
        )
    return n, m


def divides(weight: Tensor, m: int) -> bool:
    """Return whether the input channels of a weight fall into groups of ``m``."""
    return weight.dim() > 1 and weight.shape[1] % m == 0


def audit(masks: Masks, *, n: int, m: int) -> dict[str, list[str]]:
    """Count every group, and return which layers are grouped and which are not.

    Args:
        masks: of the result.
        n: kept of each group.
        m: size of a group.

    Raises:
        UserError: naming the tensor, if one of its groups does not keep ``n``.
    """
    for name, mask in masks.items():
        wrong = int((_groups(mask, m).sum(2) != n).sum()) if divides(mask, m) else 0
        if wrong:
            raise UserError(
                f"{wrong} of the {mask.numel() // m} groups of {m} weights in {name} do not keep "
                f"exactly {n}: a defect, or masks of another pruner"
            )
    names = {True: list[str](), False: list[str]()}
    for name, mask in masks.items():
        names[divides(mask, m)].append(name)
    return {"grouped": names[True], "dense": names[False]}


def _groups(weight: Tensor, m: int) -> Tensor:
    """View (out, in, …) as (out, in / m, m, …)."""
    return weight.unflatten(1, (weight.shape[1] // m, m))


def _best_of_groups(score: Tensor, n: int, m: int) -> Tensor:
    """Mark the scores that fewer than ``n`` of the same group beat.

    By comparing all pairs of a group's members, each pair for all groups at once; of equal ones the
    first wins.
    """
    members = _groups(score, m).movedim(2, 0).contiguous()
    beaten = torch.zeros(members.shape, dtype=torch.int8, device=score.device)
    for first, second in combinations(range(m), 2):
        wins = members[first] >= members[second]
        beaten[second] += wins
        beaten[first] += ~wins
    return (beaten < n).movedim(0, 2).flatten(1, 2)
