"""Decide which runs may be compared: those that differ in their pruner or their objective alone.

Data, recipe, training budget, ratio, attack and seed are the same. What differs in two things is
not compared.
"""

import json
from typing import Any

from advprune.report.data.epochs import epochs_after_dense, epochs_of_phases
from advprune.report.data.runs import Run, StoredStage
from advprune.report.table.job_row import ratio_of

#: What two runs may differ in, one at a time: the options of each stage that belong to it.
AXES: dict[str, dict[str, tuple[str, ...]]] = {
    "pruner": {"pruned": ("pruner", "search", "between", "objective")},
    "objective": dict.fromkeys(
        ("dense", "pruned", "finetuned", "quantized"), ("objective", "select")
    ),
}
#: Marks a key of runs that are as long in all.
WHOLE = "whole"


def axes_of(run: Run) -> list[str]:
    """Return the axes along which a run can differ from others: a dense network has no pruner."""
    return [axis for axis in AXES if axis == "objective" or run.stage("pruned") is not None]


def pairing_keys(run: Run, axis: str) -> set[str]:
    """Return texts; two runs may be compared along ``axis`` if they have one of these in common.

    Two pruners have the same budget if they are fine-tuned for as many epochs, or if they train for
    as many in all, the search for a mask and the training between rounds included; or, of one that
    is not fine-tuned, if the whole runs are as long.
    """
    stages = [
        (stage.kind, _options_without(stage, AXES[axis]))
        for stage in (*run.line, *(run.source or ()))
    ]
    keys = {json.dumps([axis, run.seed, stages], sort_keys=True)}
    if axis == "pruner" and run.stage("pruned") is not None:
        keys.add(_whole_key(run, axis, stages))
    if axis == "pruner" and run.stage("finetuned") is not None:
        epochs = epochs_after_dense(run)
        by_total = [(kind, _with_total_epochs(kind, options, epochs)) for kind, options in stages]
        keys.add(json.dumps([axis, run.seed, by_total], sort_keys=True))
    return keys


def may_pair(key: str, one: Run, other: Run) -> bool:
    """Return whether two runs with this key in common may be compared.

    Whole runs of equal length are, if one of them has no fine-tuning of its own that could be held
    against the other's.
    """
    tuned = [run.stage("finetuned") is not None for run in (one, other)]
    return json.loads(key)[1] != WHOLE or not all(tuned)


def _whole_key(run: Run, axis: str, stages: list[tuple[str, dict[str, Any]]]) -> str:
    """Return a key by the epochs of the whole run, those of an unused dense network left out."""
    total = sum(epochs_of_phases(run))
    others = [(kind, options) for kind, options in stages if kind != "finetuned"]
    return json.dumps([axis, WHOLE, run.seed, total, others], sort_keys=True)


def _with_total_epochs(kind: str, options: dict[str, Any], epochs: float) -> dict[str, Any]:
    """Return the options with the total of epochs in place of those of fine-tuning."""
    if kind != "finetuned":
        return options
    recipe = {name: value for name, value in options.get("recipe", {}).items() if name != "epochs"}
    return options | {"recipe": recipe, "total_epochs": epochs}


def _options_without(stage: StoredStage, dropped: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return a stage's options without the dropped ones.

    What is removed (weights, filters, blocks) stays, and what its ratio is a share of: a ratio of
    one is not a ratio of another.
    """
    kept = {
        name: value
        for name, value in stage.identity.items()
        if name not in dropped.get(stage.kind, ())
    }
    pruner = stage.identity.get("pruner")
    return kept | (
        {} if pruner is None else {"unit": pruner.get("unit"), "ratio_of": ratio_of(pruner)}
    )
