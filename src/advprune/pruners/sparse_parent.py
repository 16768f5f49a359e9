"""Prune a network that was sparse before: its zeros stay, and count in the ratio."""

from typing import Any

import torch
from torch import nn

from advprune.errors import UserError
from advprune.masks import Masks, keep_count, prunable, sparsity
from advprune.pruners import masking
from advprune.pruners.spending import Spending
from advprune.pruners.task import cumulative

#: Share of zeros from which on a network is sparse; fewer are accidents, such as of rounding.
SPARSE = 0.01


def zeros_of(net: nn.Module) -> float:
    """Return the share of zeros among the prunable weights of a sparse network, else 0."""
    share = sparsity(prunable(net)).overall
    return share if share >= SPARSE else 0.0


def masks_of(net: nn.Module, pruner: Spending) -> Masks | None:
    """Return the masks of a sparse network's nonzero weights; None of a dense one.

    Biases that may be removed are in them, all kept.
    """
    if not zeros_of(net):
        return None
    weights = prunable(net)
    biases = {
        n: torch.ones_like(p, dtype=torch.bool)
        for n, p in masking.removable(net, pruner).items()
        if n not in weights
    }
    return {name: weight.detach() != 0 for name, weight in weights.items()} | biases


def gone(net: nn.Module, pruner: Spending, masks: Masks | None, ratio: float) -> float:
    """Return the share of what may be removed that is gone before the first round.

    Raises:
        UserError: if it is more than the whole ratio: pruning brings nothing back.
    """
    if masks is None:
        return 0.0
    names = masking.removable(net, pruner)
    left = sum(int(masks[name].sum()) for name in names)
    total = sum(masks[name].numel() for name in names)
    if keep_count(total, ratio) > left:
        raise UserError(
            f"ratio={ratio:g} is less than what is gone already: {total - left} of {total} weights "
            f"of the dense network ({(total - left) / total:.4f}) are zero, and pruning brings "
            "none back; give a larger ratio, or a network that was not pruned before"
        )
    return (total - left) / total


def check(net: nn.Module, pruner: Spending, ratio: float) -> None:
    """Refuse a ratio that only weights brought back from zero could reach.

    Raises:
        UserError: see ``gone``, or naming the layer of which more would be kept than there is.
    """
    within = masks_of(net, pruner)
    if within is None:
        return
    start = gone(net, pruner, within, ratio)
    flat = {name: torch.zeros(w.shape) for name, w in masking.removable(net, pruner).items()}
    for cumulated in cumulative(ratio, schedule=pruner.schedule, rounds=pruner.rounds, start=start):
        if pruner.select is None:
            masking.spend(pruner)(flat, cumulated, within=within)


def parent_facts(net: nn.Module, *, unit: str | None) -> dict[str, Any]:
    """Return what zeros a network has before it is pruned, and a sentence; {} of a dense one."""
    share = zeros_of(net)
    if not share:
        return {}
    after = (
        f"{unit} were removed from it, and fine-tuning what is left may fill its zeros"
        if unit
        else "they stay removed and count in the ratio and the sparsity"
    )
    sentence = (
        f"the dense parent had {share:.1%} zeros among its prunable weights before it was pruned; "
        f"{after}"
    )
    return {"parent_zeros": share, "doubts": [sentence]}
