"""One job's row: read from the results of its stages, never from a log."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from advprune.report.data.doubts import doubts_of, strength

#: The cells of a transfer attack.
TRANSFER = ("target_acc", "both_correct", "transfer_rate")
#: Of networks that are smaller, not only sparser.
SIZES = ("params", "dense_params", "macs", "dense_macs")


def row_of(
    plan: Any,
    results: dict[str, dict[str, Any]],
    store: Any,
    names: dict[str, str],
    options: dict[str, Any],
) -> dict[str, Any]:
    """What the table shows of a job, and more for its CSV and JSON.

    Args:
        plan: the job's stages.
        results: each stage's ``result.json`` by key.
        names: the chosen members of the groups.
        options: resolved.
    """
    final, dense = results[plan.final.key], results[plan.dense.key]
    after = results[plan.evaluated.key]
    before = (
        {} if plan.final.key == plan.dense.key else results[plan.evaluated_dense.key]
    )  # a lone network has no parent
    metric = options["select"]["metric"]
    row: dict[str, Any] = {
        **names,
        "objective": names.get("objective"),
        "pruner": names.get("pruner"),
        "ratio": final.get("ratio"),
        "compression": final.get("compression"),
        "seed": options["seed"],
        "sparsity": final.get("sparsity"),
        "zeros": final.get("zeros", final.get("sparsity")),
        **{name: final[name] for name in SIZES if name in final},
        "eps": after["threat"]["eps"],
        "norm": after["threat"]["norm"],
        "perturbation": after.get("perturbation"),
        "alone": after.get("alone"),
        "mean_acc": after.get("mean_acc"),
        "dense_mean_acc": before.get("mean_acc"),
        "images": after["images"],
        "of": after["of"],
        "clean_acc": after["clean_acc"],
        "clean_acc_interval": after["clean_acc_interval"],
        **_shares("", after, ("robust_acc", "certified_acc")),
        "abstained": after.get("abstained"),
        "smoothed": after.get("smoothed"),
        "after_each": after.get("after_each"),
        "source": _source(plan, options, names.get("source_model"))
        if "target_acc" in after
        else None,
        **{name: after[name] for name in after if name.startswith(TRANSFER)},
        **_shares("dense_", before, ("clean_acc", "robust_acc", "certified_acc")),
        "kept": final.get("kept"),
        "checkpoint": final.get("kept"),
        "validation": final.get("validation", {}).get(metric),
        "float_bytes": final.get("float_bytes"),
        "int8_bytes": final.get("int8_bytes"),
        "foreign": dense.get("foreign"),
        "seconds": sum(results[stage.key]["seconds"] for stage in plan.evaluated.line()),
        "ranks": final.get("ranks"),
        "batch_norm": final.get("batch_norm"),
        "precision": final.get("precision"),
        "code": sorted(
            {
                results[stage.key].get("provenance", {}).get("code", "unknown")
                for stage in plan.stages()
            }
        ),
        "doubts": [*said_of(plan.final.line(), results), *after["doubts"]],
        "files": {
            stage.kind: str(store.folder(stage))
            for stage in (plan.dense, plan.final, plan.evaluated)
        },
        "dense_records": str(store.folder(plan.evaluated_dense) / "records.parquet"),
    }
    return row | {"doubts": doubts_of(row), "strength": strength(row)}


def said_of(stages: Iterable[Any], results: Mapping[str, dict[str, Any]]) -> list[str]:
    """What the stages that made a network say against it, each sentence once."""
    return list(
        dict.fromkeys(doubt for stage in stages for doubt in results[stage.key].get("doubts", []))
    )


def _shares(prefix: str, result: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Shares and intervals; None where an attack certifies nothing, or a certifier attacks nothing."""
    return {
        f"{prefix}{name}{end}": result.get(f"{name}{end}")
        for name in names
        for end in ("", "_interval")
    }


def _source(plan: Any, options: dict[str, Any], model: str | None) -> str:
    """Whose examples a transfer attack used: a file's, those of another model, or of the dense parent."""
    origin, seed = plan.evaluated.examples.parent, options.get("source_seed")
    file = origin.options.get("weights")
    own = "self" if options.get("source") == "self" else None
    words = [own or Path(file).name] if own or file else [] if model else ["dense"]
    words += [model] if model else []
    return " ".join(words if seed is None else [*words, f"seed {seed}"])
