"""The leaderboard's entries: a run of the store as a row, its parent's numbers beside it, seeds pooled, best first."""

import json
from collections import defaultdict
from statistics import mean
from typing import Any

from advprune.report.data.doubts import doubts_of
from advprune.report.data.names import Names, differences, words
from advprune.report.data.runs import Run
from advprune.report.data.seeds import pool
from advprune.report.table.job_row import SIZES, TRANSFER

#: What an entry is called; two that are called the same but are not get what tells them apart.
CALLED = (
    "dataset",
    "model",
    "objective",
    "pruner",
    "ratio",
    "quantizer",
    "attack",
    "norm",
    "eps",
    "source",
    "foreign",
)
#: Shares, the one that ranks last.
MEASURED = ("clean_acc", "certified_acc", "robust_acc")


def entry(run: Run, names: Names) -> dict[str, Any]:
    """One run as the row that its table showed, from the store alone; ``folders`` and ``runs`` say where it is."""
    final, after, pruned = run.final.result, run.evaluated.result, run.stage("pruned")
    ratio = None if pruned is None else final.get("ratio", pruned.result["ratio"])
    own = after.get("perturbation")
    told: dict[str, Any] = words(run, names) | {
        "ratio": ratio,
        "seed": run.seed,
        "identity": run.identity,
        "run": run.evaluated.key,
        "network": Run(run.line[:-1]).identity,
        "judged": json.dumps(run.evaluated.identity, sort_keys=True),
        "sparsity": final.get("sparsity", 0.0 if pruned is None else pruned.result["sparsity"]),
        "foreign": run.dense.result.get("foreign"),
        "unit": None if pruned is None else pruned.options["pruner"].get("unit") or "weights",
        **{name: final[name] for name in SIZES if name in final},
        "eps": None if own else after["threat"]["eps"],
        "norm": None if own else after["threat"]["norm"],
        "perturbation": own,
        "images": after["images"],
        "of": after["of"],
        "checkpoint": final.get("kept"),
        "smoothed": after.get("smoothed"),
        "after_each": after.get("after_each"),
        "seconds": sum(stage.result["seconds"] for stage in run.line),
        "doubts": list(
            dict.fromkeys(doubt for s in reversed(run.line) for doubt in s.result.get("doubts", []))
        ),
        "ranks": final.get("ranks"),
        "batch_norm": final.get("batch_norm"),
    }
    shares = (*MEASURED, *TRANSFER)
    told |= {
        f"{name}{end}": after.get(f"{name}{end}") for name in shares for end in ("", "_interval")
    }
    return told | {"doubts": doubts_of(told)}


def entries(
    runs: list[Run], names: Names, sizes: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """All runs, seeds pooled, those that compare side by side and the best of them first.

    Args:
        sizes: what ``sizes=true`` measured of a network, by the key of its stage.
    Returns:
        A row each; ``runs`` is {seed: key of the evaluation}, ``options`` what tells it from its
        namesakes, ``costs`` the means over seeds of what is known of MACs and seconds.
    """
    parents = {_judged(run): run.evaluated.result for run in runs if len(run.line) == 2}
    groups: dict[str, list[Run]] = defaultdict(list)
    rows = []
    for run in runs:
        groups[run.identity].append(run)
        before = parents.get(_judged(run), {}) if len(run.line) > 2 else {}
        shares = {
            f"dense_{name}{end}": before.get(f"{name}{end}")
            for name in MEASURED
            for end in ("", "_interval")
        }
        rows.append(entry(run, names) | shares)
    pooled = pool(rows, lambda row: row["identity"])
    for row in pooled:
        group = sorted(groups[row["identity"]], key=lambda run: run.seed)
        row["runs"] = {run.seed: run.evaluated.key for run in group}
        row["commands"] = {run.seed: command for run in group if (command := _command(run))}
        row["costs"] = _costs([_size(run, sizes) for run in group])
    _tell_apart(pooled, groups)
    return sorted(pooled, key=_rank)


def _command(run: Run) -> str | None:
    """The command that makes the run's last stage again, as its provenance has it."""
    made = run.evaluated.result.get("provenance")
    command = made.get("command") if isinstance(made, dict) else None
    return command if isinstance(command, str) else None


def _judged(run: Run) -> tuple[str, str]:
    """The dense parent and how it is judged: that of the pruned network and its own."""
    asked = {name: value for name, value in run.evaluated.identity.items() if name != "runs"}
    return run.dense.key, json.dumps([asked, run.seed], sort_keys=True)


def _size(run: Run, sizes: dict[str, dict[str, Any]]) -> dict[str, float]:
    """MACs and seconds of one network: counted when it was pruned, or measured because a job asked."""
    measured, final = sizes.get(run.final.key, {}), run.final.result
    found = {
        "macs": measured.get("effective_macs", final.get("macs")),
        "seconds_1": measured.get("seconds_1"),
        "seconds_128": measured.get("seconds_128"),
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def _costs(found: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in found for name in one)
    return {name: mean(one[name] for one in found if name in one) for name in names}


def _tell_apart(rows: list[dict[str, Any]], groups: dict[str, list[Run]]) -> None:
    """Give rows that are called the same, ``options``: what they differ in."""
    called: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        called[tuple(row[name] for name in CALLED)].append(row)
    for same in called.values():
        told = (
            differences([groups[row["identity"]][0].line for row in same])
            if len(same) > 1
            else [""]
        )
        for row, options in zip(same, told, strict=True):
            row["options"] = options


def method(row: dict[str, Any]) -> str:
    """What is compared: the pruner, or the file, or dense; with its quantizer, and what tells it from its namesakes."""
    parts = (row["pruner"] or row.get("foreign") or "dense", row["quantizer"], row["options"])
    return " ".join(str(part) for part in parts if part)


def verdict(row: dict[str, Any]) -> str:
    """The share that an evaluation is about: what is proved, or what withstood."""
    return "certified_acc" if row.get("certified_acc") is not None else "robust_acc"


def _rank(row: dict[str, Any]) -> tuple[Any, ...]:
    fair = (
        row["dataset"],
        row["model"],
        row["norm"] or "",
        row["eps"] or 0,
        row["attack"],
        row["source"] or "",
    )
    return (*fair, -1 if row["ratio"] is None else row["ratio"], -row[verdict(row)], method(row))
