"""Say what a network cost: its epochs, the unit that its ratio counts in, and large numbers."""

from collections.abc import Mapping
from typing import Any

from advprune.config.stage_options import Dense, Finetuned, Pruned
from advprune.report.data.row import Row
from advprune.store.stage import Plan

#: What a ratio is a share of, by ``pruner.budget``.
BUDGETS = {"macs": "MACs", "parameters": "parameters", "blocks": "blocks"}


def ratio_of(pruner: Mapping[str, object]) -> str:
    """Return what the ratio of a pruner is a share of: papers mean different things by it.

    Args:
        pruner: its options ``unit``, ``budget`` and ``scope``.

    Returns:
        ``weights`` of single ones; of filters and blocks the budget, and of a number of filters
        also the scope, for ``layer`` takes the share of each layer and ``global`` of all together.
    """
    if pruner.get("unit") is None:
        return "weights"
    budget = str(pruner.get("budget"))
    return BUDGETS.get(budget, f"{budget}, scope={pruner.get('scope')}")


def count(number: float | None) -> str:
    """Return a count in three digits: ``1.23 M``, ``45.6 k``; a dash if it was not counted."""
    if number is None:
        return "–"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"  # a mean over seeds is not whole


def epochs_of(plan: Plan) -> list[int]:
    """Return the epochs of dense training, of pruning while training, and of recovery.

    Methods are compared by them. A dense network that a pruner does not start from is not in them.
    """
    dense = pruning = recovery = 0
    for stage in plan.final.line:
        options: Any = stage.options
        if isinstance(options, Dense) and options.training and options.training.recipe:
            dense = options.training.recipe.epochs
        elif isinstance(options, Pruned):
            pruning = _of_pruning(options)
            dense = 0 if options.pruner.start == "init" else dense
        elif isinstance(options, Finetuned) and options.training.recipe:
            recovery = options.training.recipe.epochs
    return [dense, pruning, recovery]


def _of_pruning(options: Pruned) -> int:
    """Return the epochs of a process, or of the training between rounds."""
    if options.pruner.process is not None and options.training.recipe is not None:
        return options.training.recipe.epochs
    rounds = options.pruner.rounds - 1 if options.pruner.trains_between else 0
    return rounds * options.pruner.epochs_per_round


def budget_note(rows: list[Row]) -> str:
    """Return the epochs of each pruner in these rows, as a sentence; empty if nothing is pruned."""
    by_epochs: dict[str, list[str]] = {}
    for row in rows:
        if row.get("pruner") and row.get("epochs"):
            names = by_epochs.setdefault(" + ".join(map(str, row["epochs"])), [])
            names.append(str(row["pruner"]))
    parts = [
        epochs if len(by_epochs) == 1 else f"{', '.join(dict.fromkeys(names))} {epochs}"
        for epochs, names in by_epochs.items()
    ]
    return f"epochs, dense + pruning + recovery: {'; '.join(parts)}" if parts else ""
