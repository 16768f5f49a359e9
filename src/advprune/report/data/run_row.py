"""Make the row of one run from the store, in the form that the table of its job has."""

import json

from advprune.report.data.names import Names, run_labels
from advprune.report.data.row import Row
from advprune.report.data.runs import Run
from advprune.report.table.job_row import SIZES, TRANSFER, doubts_of, ratio_of

#: Accuracies; the last one that a row has is ranked by.
MEASURED = ("clean_acc", "certified_acc", "robust_acc")


def run_row(run: Run, names: Names) -> Row:
    """Return one run as a row of the table, from the store alone."""
    final, after, pruned = run.final.result, run.evaluated.result, run.stage("pruned")
    ratio = None if pruned is None else final.get("ratio", pruned.result["ratio"])
    perturbation = after.get("perturbation")
    row: Row = run_labels(run, names) | {
        "ratio": ratio,
        "seed": run.seed,
        "identity": run.identity,
        "run": run.evaluated.key,
        "network": Run(run.line[:-1]).identity,
        "evaluation": json.dumps(run.evaluated.identity, sort_keys=True),
        "sparsity": final.get("sparsity", 0.0 if pruned is None else pruned.result["sparsity"]),
        "foreign": run.dense.result.get("foreign"),
        "unit": None if pruned is None else pruned.options["pruner"].get("unit") or "weights",
        "budget": None if pruned is None else pruned.options["pruner"].get("budget"),
        "ratio_of": None if pruned is None else ratio_of(pruned.options["pruner"]),
        **{name: final[name] for name in SIZES if name in final},
        "eps": None if perturbation else after["threat"]["eps"],
        "norm": None if perturbation else after["threat"]["norm"],
        "perturbation": perturbation,
        "distance_quartiles": after.get("distance_quartiles"),
        "not_found": after.get("not_found"),
        "images": after["images"],
        "of": after["of"],
        "checkpoint": final.get("kept"),
        "smoothed": after.get("smoothed"),
        "after_each": after.get("after_each"),
        "audited": after.get("audited"),
        "audited_held": after.get("audited_held"),
        "seconds": sum(stage.result["seconds"] for stage in run.line),
        "doubts": list(
            dict.fromkeys(doubt for s in reversed(run.line) for doubt in s.result.get("doubts", []))
        ),
        "ranks": final.get("ranks"),
        "batch_norm": final.get("batch_norm"),
    }
    shares = (*MEASURED, *TRANSFER)
    row |= {
        f"{name}{end}": after.get(f"{name}{end}") for name in shares for end in ("", "_interval")
    }
    return row | {"doubts": doubts_of(row)}
