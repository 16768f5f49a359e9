"""Count the epochs of a run, phase by phase."""

from advprune.report.data.runs import Run


def epochs_after_dense(run: Run) -> float:
    """Return the epochs of the mask search, of all rounds but the last, and of the fine-tuning."""
    pruned, tuned = run.stage("pruned"), run.stage("finetuned")
    total = 0.0 if tuned is None else float(tuned.options["recipe"]["epochs"])
    if pruned is not None and pruned.options.get("search"):
        total += float(pruned.options["search"]["epochs"])
    if pruned is not None and pruned.options.get("between"):
        pruner = pruned.options["pruner"]
        total += pruner["epochs_per_round"] * (pruner["rounds"] - 1)
    return total


def epochs_of_phases(run: Run) -> list[float]:
    """Return the epochs of dense training, of pruning while training, and of recovery.

    A dense network that a pruner does not start from costs it nothing.
    """
    pruned, tuned = run.stage("pruned"), run.stage("finetuned")
    unused = pruned is not None and pruned.options["pruner"].get("start") == "init"
    dense = 0.0 if unused else float((run.dense.options.get("training") or {}).get("epochs", 0))
    recovery = 0.0 if tuned is None else float(tuned.options["recipe"]["epochs"])
    return [dense, epochs_after_dense(run) - recovery, recovery]
