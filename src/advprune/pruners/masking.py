"""Decide which weights a pruner removes, and count afterwards what it removed."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from advprune.distributed import collectives
from advprune.errors import UserError
from advprune.masks import Masks, Scores, prunable, sparsity
from advprune.pruners import scopes, scoring, thresholds
from advprune.pruners.compression import ratio_for
from advprune.pruners.eligible import completed, eligible
from advprune.pruners.layouts import columns, n_of_m
from advprune.pruners.spending import Spending
from advprune.pruners.task import Spend


class Target(Protocol):
    """Say how much goes: a ratio, or a compression of the whole network."""

    @property
    def ratio(self) -> float | None:
        """Return the share removed."""

    @property
    def compression(self) -> float | None:
        """Return how many times smaller the network becomes; None: see the ratio."""

    @property
    def pruner(self) -> Spending:
        """Return how it is spent."""


def removable(net: nn.Module, pruner: Spending) -> dict[str, nn.Parameter]:
    """Return the parameters that this pruner may remove, as its options say."""
    if pruner.biases or pruner.classifier is False:
        return eligible(net, biases=bool(pruner.biases), classifier=pruner.classifier is not False)
    return prunable(net)


def everything(net: nn.Module, pruner: Spending) -> Masks:
    """Return masks that keep all that is prunable, and all that may be removed."""
    parameters = prunable(net) | removable(net, pruner)
    return {name: torch.ones_like(p, dtype=torch.bool) for name, p in parameters.items()}


def spend(pruner: Spending) -> Spend:
    """Return how this pruner spends a ratio: by its scope."""
    return partial(scopes.spend, scope=pruner.scope, n=pruner.n, m=pruner.m)


def target_ratio(net: nn.Module, options: Target) -> float:
    """Return the share of removable weights to remove, from ``ratio`` or ``compression``.

    Raises:
        UserError: if the network cannot be compressed so far; the message names the largest
            possible.
    """
    if options.compression is None:
        assert options.ratio is not None
        return options.ratio
    pruner = options.pruner
    if pruner.unit is None:
        return ratio_for(net, removable(net, pruner), options.compression)
    if pruner.budget != "parameters":
        raise UserError(
            f"compression counts parameters, and pruner.budget={pruner.budget} does not: give "
            "ratio, or pruner.budget=parameters"
        )
    return 1 - 1 / options.compression


def scores_of(
    criterion: Callable[..., Any], model: nn.Module, batches: Iterable[Any], pruner: Spending
) -> dict[str, Any]:
    """Score what may be removed.

    Raises:
        UserError: if the criterion breaks its contract, see ``scoring.checked_scores``.
    """
    shapes = {name: parameter.shape for name, parameter in removable(model, pruner).items()}
    takes = "eligible" in inspect.signature(criterion).parameters
    extra = {"eligible": partial(removable, pruner=pruner)} if takes else {}
    return scoring.checked_scores(criterion, model, batches, shapes=shapes, **extra)


def compute_masks(
    criterion: Callable[..., Any],
    model: nn.Module,
    batches: Iterable[Any],
    pruner: Spending,
    ratio: float,
    within: Masks | None,
) -> Masks:
    """Score what may be removed and remove the share ``ratio``; all else keeps an all-True mask.

    Args:
        criterion: ``(model, batches) -> scores``.
        model: the network as it is.
        batches: training batches, loaded only if the criterion looks at them.
        pruner: its options.
        ratio: share of the removable weights to be gone in all.
        within: masks that the new ones must lie within; None: anywhere.

    Raises:
        UserError: if the criterion scores too little, or the ratio cannot be spent.
    """
    # each rank scores on the same images; what differs by rounding is averaged
    with collectives.without_communication():
        scores = scores_of(criterion, model, batches, pruner)
    masks = masks_of(collectives.averaged(scores), pruner, ratio, within)
    return _both(completed(model, masks), within)


def masks_of(scores: Scores, pruner: Spending, ratio: float, within: Masks | None) -> Masks:
    """Return the masks that these scores give by the pruner's options.

    Raises:
        UserError: if the ratio cannot be spent on them.
    """
    if pruner.remove == "largest":
        scores = {name: -score for name, score in scores.items()}
    if pruner.select == "quantile":
        return _both(thresholds.quantile(scores, ratio, scope=pruner.scope), within)
    if pruner.select == "bernoulli":
        return _both(thresholds.bernoulli(scores, ratio), within)
    return spend(pruner)(scores, ratio, within=within)


def _both(masks: Masks, within: Masks | None) -> Masks:
    """Keep what both keep.

    Thresholds know nothing of what was gone before, and a layer left alone may have had zeros.
    """
    return masks if within is None else {name: mask & within[name] for name, mask in masks.items()}


def measure_sparsity(
    net: nn.Module, masks: Masks, ratio: float, pruner: Spending
) -> dict[str, Any]:
    """Count the sparsity of all prunable weights, and how many times fewer parameters there are.

    Raises:
        UserError: if the count is off from the scope's by more than one weight a layer (a process
            may round otherwise), a group of an N:M scope is not N of M, or a column is cut in part;
            thresholds (``pruner.select``) promise no count, so theirs is reported and not checked.
    """
    measured, over = sparsity(masks), sparsity({name: masks[name] for name in prunable(net)})
    names = removable(net, pruner)
    kept = sum(measured.kept[name] for name in names)
    total = sum(measured.total[name] for name in names)
    asked = _asked(names, ratio, pruner) if pruner.select is None else kept
    if abs(kept - asked) > len(names):
        raise UserError(
            f"pruning to ratio={ratio} kept {kept} of {total} weights, not {asked}: a defect"
        )
    parameters = sum(parameter.numel() for parameter in net.parameters())
    removed = sum(measured.total.values()) - sum(measured.kept.values())
    return {
        "sparsity": over.overall,
        "weights_kept": sum(over.kept.values()),
        "weights": sum(over.total.values()),
        "layers": measured.layers,
        "ratio": ratio,
        "removable": total,
        "removable_kept": kept,
        "parameters": parameters,
        "compression": parameters / (parameters - removed),
        **_audit(masks, pruner),
    }


def _asked(names: dict[str, nn.Parameter], ratio: float, pruner: Spending) -> int:
    """Return how many weights the pruner's scope leaves."""
    flat = {name: torch.zeros(weight.shape) for name, weight in names.items()}
    return sum(int(mask.sum()) for mask in spend(pruner)(flat, ratio).values())


def _audit(masks: Masks, pruner: Spending) -> dict[str, Any]:
    """Count what a structured scope promises: N of each group of M, or whole columns."""
    matrices = {name: mask for name, mask in masks.items() if mask.dim() > 1}
    if pruner.n is not None and pruner.m is not None:
        return dict(n_of_m.audit(matrices, n=pruner.n, m=pruner.m))
    return dict(columns.audit(matrices)) if pruner.scope == "columns" else {}
