"""Make the leaderboard's rows from the store's runs.

Seeds are pooled, the dense parent's numbers are beside a pruned network's, the best come first.
"""

import json
from collections import defaultdict
from statistics import mean
from typing import Any

from advprune.report.data.commands import command_of
from advprune.report.data.counting import counted_network
from advprune.report.data.differing_options import distinguishing_options
from advprune.report.data.intervals import pool
from advprune.report.data.names import Names
from advprune.report.data.row import Row
from advprune.report.data.run_row import MEASURED, run_row
from advprune.report.data.runs import Run

#: Columns that name a row. Rows that agree in all of them also show the options that differ.
NAMED_BY = (
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


def entries(runs: list[Run], names: Names, sizes: dict[str, dict[str, Any]]) -> list[Row]:
    """Return the rows of all runs: seeds pooled, comparable rows together, the best first.

    Args:
        runs: the evaluations in a store.
        names: what commands called their options.
        sizes: what ``sizes=true`` measured of a network, by the key of its stage.

    Returns:
        A row each; ``runs`` is {seed: key of the evaluation}, ``options`` what distinguishes it
        from rows of the same name, ``costs`` the means over seeds of MACs and seconds, where known.
    """
    parents = {
        _evaluation_of_parent(run): run.evaluated.result for run in runs if len(run.line) == 2
    }
    groups: dict[str, list[Run]] = defaultdict(list)
    rows = []
    for run in runs:
        groups[run.identity].append(run)
        parent = parents.get(_evaluation_of_parent(run), {}) if len(run.line) > 2 else {}
        parent_accuracies = {
            f"dense_{name}{end}": parent.get(f"{name}{end}")
            for name in MEASURED
            for end in ("", "_interval")
        }
        rows.append(run_row(run, names) | parent_accuracies)
    pooled = pool(rows, lambda row: row["identity"])
    for row in pooled:
        same_runs = sorted(groups[row["identity"]], key=lambda run: run.seed)
        row["runs"] = {run.seed: run.evaluated.key for run in same_runs}
        row["commands"] = {
            run.seed: command for run in same_runs if (command := command_of(run.evaluated.result))
        }
        row["costs"] = _mean_costs([_network_costs(run, sizes) for run in same_runs])
    _add_options(pooled, groups)
    return sorted(pooled, key=_rank)


def _evaluation_of_parent(run: Run) -> tuple[str, str]:
    """Return what a pruned run and the run of its dense parent have in common."""
    options = {name: value for name, value in run.evaluated.identity.items() if name != "runs"}
    return run.dense.key, json.dumps([options, run.seed], sort_keys=True)


def _network_costs(run: Run, sizes: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return parameters, MACs and seconds of one network, as counted or measured by a job."""
    measured, final = sizes.get(run.final.key, {}), run.final.result
    network = run.evaluated.result.get("network")
    if network is None:  # today's code counts it; not of a network in 8 bits
        network = counted_network(run)
    costs = {
        "parameters": network.get("nonzero_parameters", final.get("params")),
        "macs": network.get("nonzero_macs", measured.get("effective_macs", final.get("macs"))),
        "seconds_1": measured.get("seconds_1"),
        "seconds_128": measured.get("seconds_128"),
    }
    return {name: float(value) for name, value in costs.items() if value is not None}


def _mean_costs(costs: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in costs for name in one)
    return {name: mean(one[name] for one in costs if name in one) for name in names}


def _add_options(rows: list[Row], groups: dict[str, list[Run]]) -> None:
    """Give each row ``options``: what distinguishes it from the rows of the same name."""
    rows_by_name: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        rows_by_name[tuple(row[name] for name in NAMED_BY)].append(row)
    for namesakes in rows_by_name.values():
        options = (
            distinguishing_options([groups[row["identity"]][0].line for row in namesakes])
            if len(namesakes) > 1
            else [""]
        )
        for row, text in zip(namesakes, options, strict=True):
            row["options"] = text


def method(row: Row) -> str:
    """Return what is compared: the pruner, the file or ``dense``, with quantizer and options."""
    parts = (row["pruner"] or row.get("foreign") or "dense", row["quantizer"], row["options"])
    return " ".join(str(part) for part in parts if part)


def method_at_ratio(row: Row) -> str:
    """Return the method with the ratio, as ``hydra 0.99``; one not pruned has none."""
    return method(row) if row["ratio"] is None else f"{method(row)} {row['ratio']:g}"


def main_metric(row: Row) -> str:
    """Return the name of the accuracy that a row is about: certified if it has one, else robust."""
    return "certified_acc" if row.get("certified_acc") is not None else "robust_acc"


def _rank(row: Row) -> tuple[Any, ...]:
    comparable = (
        row["dataset"],
        row["model"],
        row["norm"] or "",
        row["eps"] or 0,
        row["attack"],
        row["source"] or "",
    )
    return (
        *comparable,
        -1 if row["ratio"] is None else row["ratio"],
        -row[main_metric(row)],
        method(row),
    )
