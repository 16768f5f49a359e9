"""Make a job's row from the results of its stages, and tell what to doubt of it. No log is read.

The terminal, the report's page, its files and W&B all take their doubts from here.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from advprune.config.options import Options
from advprune.config.stage_options import Dense, Finetuned, Pruned
from advprune.report.data.row import Row
from advprune.store.stage import Plan, Stage
from advprune.store.store import Store

#: The cells of a transfer attack.
TRANSFER = ("target_acc", "both_correct", "transfer_rate")
#: What a certifier tells, and what AutoAttack does.
OF_SOME_ATTACKS = ("abstained", "smoothed", "after_each", "audited", "audited_held")
#: Of networks that are smaller, not only sparser.
SIZES = ("params", "dense_params", "macs", "dense_macs")
#: The parts of AutoAttack's standard version; an evaluation tells which parts it ran.
AUTOATTACK = frozenset({"apgd-ce", "apgd-t", "fab-t", "square"})
#: What a ratio is a share of, by ``pruner.budget``.
BUDGETS = {"macs": "MACs", "parameters": "parameters", "blocks": "blocks"}
OVERSTATES = "PGD and its like overstate robustness: publish numbers made with attack=autoattack"


def row_of(
    plan: Plan,
    results: dict[str, dict[str, Any]],
    store: Store,
    names: dict[str, str],
    options: Options,
) -> dict[str, Any]:
    """Return a job's row: what the table shows of it, and more for CSV and JSON.

    Args:
        plan: the job's stages.
        results: each stage's ``result.json``, by key.
        store: where the stages lie.
        names: the chosen members of the groups.
        options: the job's.
    """
    final, evaluated = results[plan.final.key], results[plan.evaluated.key]
    # a lone network has no parent
    parent = {} if plan.final.key == plan.dense.key else results[plan.evaluated_dense.key]
    row: Row = {
        **names,
        **_network(final, names, options),
        **_counted("", evaluated),
        **_counted("dense_", parent),
        **_measured(evaluated, parent, _source(plan, options, names.get("source_model"))),
        "epochs": epochs_of(plan),
        "kept": final.get("kept"),
        "checkpoint": final.get("kept"),
        "validation": final.get("validation", {}).get(options.select.metric),
        "float_bytes": final.get("float_bytes"),
        "int8_bytes": final.get("int8_bytes"),
        "foreign": results[plan.dense.key].get("foreign"),
        "file": final.get("file"),
        "seconds": sum(results[stage.key]["seconds"] for stage in plan.evaluated.line),
        **{name: final.get(name) for name in ("ranks", "batch_norm", "precision")},
        "code": _versions(plan, results),
        "doubts": [*doubts_of_stages(plan.final.line, results), *evaluated["doubts"]],
        "files": {
            stage.kind: str(store.folder(stage))
            for stage in (plan.dense, plan.final, plan.evaluated)
        },
        "dense_records": str(store.folder(plan.evaluated_dense) / "records.parquet"),
    }
    return row | {"doubts": doubts_of(row), "strength": strength(row)}


def _network(
    final: Mapping[str, Any], names: Mapping[str, str], options: Options
) -> dict[str, Any]:
    """Return what the network is, and how sparse: its members, ratio, seed and counts."""
    return {
        "objective": names.get("objective"),
        "pruner": names.get("pruner"),
        "ratio": final.get("ratio"),
        "compression": final.get("compression"),
        "seed": options.seed,
        "sparsity": final.get("sparsity"),
        "zeros": final.get("zeros", final.get("sparsity")),
        **{name: final[name] for name in SIZES if name in final},
        "ratio_of": None if options.pruner is None else ratio_of(options.pruner.node),
    }


def _measured(
    evaluated: Mapping[str, Any], parent: Mapping[str, Any], source: str | None
) -> dict[str, Any]:
    """Return what the attack measured, and within which ball; ``parent`` is the dense network's."""
    return {
        "eps": evaluated["threat"]["eps"],
        "norm": evaluated["threat"]["norm"],
        "perturbation": evaluated.get("perturbation"),
        "alone": evaluated.get("alone"),
        "mean_acc": evaluated.get("mean_acc"),
        "dense_mean_acc": parent.get("mean_acc"),
        "distance_quartiles": evaluated.get("distance_quartiles"),
        "not_found": evaluated.get("not_found"),
        "images": evaluated["images"],
        "of": evaluated["of"],
        "clean_acc": evaluated["clean_acc"],
        "clean_acc_interval": evaluated["clean_acc_interval"],
        **_shares("", evaluated, ("robust_acc", "certified_acc")),
        **{name: evaluated.get(name) for name in OF_SOME_ATTACKS},
        "source": source,
        **{name: evaluated[name] for name in evaluated if name.startswith(TRANSFER)},
        **_shares("dense_", parent, ("clean_acc", "robust_acc", "certified_acc")),
    }


def _versions(plan: Plan, results: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return the versions of the code that made the stages."""
    made_by = (results[stage.key].get("provenance", {}) for stage in plan.stages)
    return sorted({provenance.get("code", "unknown") for provenance in made_by})


def doubts_of_stages(
    stages: Iterable[Stage[Any]], results: Mapping[str, dict[str, Any]]
) -> list[str]:
    """Return the doubts in the results of the stages that made a network, each once."""
    return list(
        dict.fromkeys(doubt for stage in stages for doubt in results[stage.key].get("doubts", []))
    )


def _shares(prefix: str, result: Mapping[str, object], names: tuple[str, ...]) -> dict[str, Any]:
    """Return accuracies and their intervals; None for one that was not measured."""
    return {
        f"{prefix}{name}{end}": result.get(f"{name}{end}")
        for name in names
        for end in ("", "_interval")
    }


def _counted(prefix: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters and MACs that are not zero; None of a network in 8 bits."""
    network = result.get("network") or {}
    names = ("nonzero_parameters", "nonzero_macs")
    return {f"{prefix}{name}": network.get(name) for name in names}


def _source(plan: Plan, options: Options, model: str | None) -> str | None:
    """Return whose examples a transfer attack used: a file's, a model's, the dense parent's."""
    examples = plan.evaluated.examples
    if examples is None:
        return None
    assert examples.parent is not None  # examples are made on a network
    root = examples.parent.options
    if options.source == "self":
        words = ["self"]
    elif isinstance(root, Dense) and root.weights is not None:
        words = [Path(root.weights.path).name]
    else:
        words = [] if model else ["dense"]
    words += [model] if model else []
    seed = options.source_seed
    return " ".join(words if seed is None else [*words, f"seed {seed}"])


def ratio_of(pruner: Mapping[str, object]) -> str:
    """Return what the ratio of a pruner is a share of: papers mean different things by it.

    Args:
        pruner: its options ``unit``, ``budget``, ``scope`` and ``classifier``.

    Returns:
        ``weights`` of single ones, or of those outside the last layer where that one stays; of
        filters and blocks the budget, and of a number of filters also the scope, for ``layer``
        takes the share of each layer and ``global`` of all together.
    """
    if pruner.get("unit") is None:
        return "weights but the classifier's" if pruner.get("classifier") is False else "weights"
    budget = str(pruner.get("budget"))
    return BUDGETS.get(budget, f"{budget}, scope={pruner.get('scope')}")


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


def doubts_of(row: Row) -> list[str]:
    """List the evaluation's own doubts and those that hold for such numbers in general."""
    doubts = list(row.get("doubts") or [])
    if strength(row) == "upper bound":
        doubts.append(OVERSTATES)
    if row.get("batch_norm") not in (None, "synchronised"):
        doubts.append(
            f"trained on {row['ranks']} ranks, BatchNorm {row['batch_norm']}: "
            "a network trained on one rank would differ"
        )
    return list(dict.fromkeys(doubts))


def strength(row: Row) -> str:
    """Return how far a row's accuracy can be relied on.

    Returns:
        ``proof``: certified, no perturbation in the ball does worse. ``AutoAttack``: all four
        parts of its standard version ran. ``upper bound``: any other search of the ball. Empty
        where no ball is searched, or where another network's examples are evaluated.
    """
    if row.get("certified_acc") is not None:
        return "proof"
    if (
        row.get("robust_acc") is None
        or row.get("perturbation")
        or row.get("source")
        or row.get("published")
    ):
        return ""
    return "AutoAttack" if set(row.get("after_each") or {}) >= AUTOATTACK else "upper bound"
