"""Count the epochs that a network was trained for in all: methods are compared by their cost."""

from typing import Any

from advprune.config.stage_options import Dense, Finetuned, Pruned
from advprune.report.data.row import Row
from advprune.store.stage import Plan


def epochs_of(plan: Plan) -> list[int]:
    """Return the epochs of dense training, of pruning while training, and of recovery.

    A dense network that a pruner does not start from costs it nothing.
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
