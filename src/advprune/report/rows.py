"""One job's row: read from the results of its stages, never from a log."""

from typing import Any

#: Of networks that are smaller, not only sparser.
SIZES = ("params", "dense_params", "macs", "dense_macs")


def row_of(
    plan: Any, results: dict[str, dict[str, Any]], store: Any, names: dict[str, str], options: dict[str, Any]
) -> dict[str, Any]:
    """What the table shows of a job, and more for its CSV and JSON.

    Args:
        plan: the job's stages.
        results: each stage's ``result.json`` by key.
        names: the chosen members of the groups.
        options: resolved.
    """
    final, dense = results[plan.final.key], results[plan.dense.key]
    after, before = results[plan.evaluated.key], results[plan.evaluated_dense.key]
    metric = options["select"]["metric"]
    row: dict[str, Any] = {
        **names,
        "ratio": options.get("ratio"), "seed": options["seed"],
        "sparsity": final.get("sparsity"), "zeros": final.get("zeros"),
        **{name: final[name] for name in SIZES if name in final},
        "eps": after["threat"]["eps"], "norm": after["threat"]["norm"],
        "images": after["images"], "of": after["of"],
        "clean_acc": after["clean_acc"], "clean_acc_interval": after["clean_acc_interval"],
        **_shares("", after, ("robust_acc", "certified_acc")),
        "abstained": after.get("abstained"), "smoothed": after.get("smoothed"),
        "after_each": after.get("after_each"),
        "dense_clean_acc": before["clean_acc"], "dense_clean_acc_interval": before["clean_acc_interval"],
        **_shares("dense_", before, ("robust_acc", "certified_acc")),
        "kept": final.get("kept"), "checkpoint": "last" if final.get("kept") == "last" else "best",
        "validation": final.get("validation", {}).get(metric),
        "foreign": dense.get("foreign"),
        "seconds": sum(_seconds(plan.evaluated, results)),
        "doubts": after["doubts"],
        "files": {stage.kind: str(store.folder(stage)) for stage in (plan.dense, plan.final, plan.evaluated)},
    }  # fmt: skip
    return row


def _shares(prefix: str, result: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Shares and intervals; None where an attack certifies nothing, or a certifier attacks nothing."""
    return {f"{prefix}{name}{end}": result.get(f"{name}{end}") for name in names for end in ("", "_interval")}


def _seconds(stage: Any, results: dict[str, dict[str, Any]]) -> list[float]:
    """What each stage of the line took when it was made."""
    line = []
    while stage is not None:
        line.append(results[stage.key]["seconds"])
        stage = stage.parent
    return line
