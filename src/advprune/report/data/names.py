"""Name the parts of a run: as the command that made it did, or else by what its options build."""

import json
import shlex
from collections.abc import Iterable
from typing import Any

from advprune.report.data.attack_names import attack_label
from advprune.report.data.commands import recorded_command
from advprune.report.data.row import Row
from advprune.report.data.runs import Run, StoredStage
from advprune.store.keys import canonical

GROUPS = ("dataset", "model", "objective", "pruner", "quantizer", "attack")
#: (group, its options as text) -> what a command line called them
Names = dict[tuple[str, str], str]


def group_options(run: Run, group: str) -> Any:
    """Return the options that a group contributed to a run; None if the run has no such part."""
    if group in ("dataset", "attack"):
        return run.evaluated.options[group]
    if group == "objective":
        return _last_objective(run)
    kinds = {"model": "dense", "pruner": "pruned", "quantizer": "quantized"}
    stage = run.stage(kinds[group])
    return None if stage is None else stage.options.get(group)


def _last_objective(run: Run) -> Any:
    """Return the objective that the network trained with last; None of a file's network.

    The last tells methods apart: one that distils has a parent of another objective.
    """
    trained = [s for s in run.line if {"training", "recipe"} & s.options.keys()]
    return trained[-1].options["objective"] if trained else None


def names_from_tables(runs: Iterable[Run], tables: Iterable[list[Row]]) -> Names:
    """Return what commands called these options, by their jobs' tables; the shortest wins."""
    rows = {row["files"]["evaluated"].rpartition("/")[2]: row for table in tables for row in table}
    names: Names = {}
    for run in runs:
        row = rows.get(run.evaluated.key, {})
        for group in GROUPS:
            options = group_options(run, group)
            if options is not None and row.get(group):
                name, at = str(row[group]), (group, _canonical_text(options))
                names[at] = min(names.get(at, name), name, key=lambda word: (len(word), word))
        if row.get("source"):
            names["source", run.evaluated.key] = row["source"]
    return names


def names_from_commands(runs: Iterable[Run]) -> Names:
    """Return what the commands that evaluated these runs called their pruner; the shortest wins."""
    names: Names = {}
    for run in runs:
        command = recorded_command(run.evaluated.result)
        options = group_options(run, "pruner")
        name = None if command is None else _pruner_in(command)
        if name and options is not None:
            at = ("pruner", _canonical_text(options))
            names[at] = min(names.get(at, name), name, key=lambda word: (len(word), word))
    return names


def _pruner_in(command: str) -> str | None:
    """Return the pruner that a command's words choose, with the options of it that they change."""
    try:
        words = shlex.split(command)
    except ValueError:  # not the command that a job writes
        return None
    chosen = [word for word in words if word.startswith("pruner=")][-1:]
    changed = [word.partition(".")[2] for word in words if word.startswith("pruner.")]
    within = [word.partition("=")[2] for word in words if word.startswith("pruner/")]
    return " ".join([chosen[0].partition("=")[2], *within, *changed]) if chosen else None


def run_labels(run: Run, names: Names) -> dict[str, str | None]:
    """Return a label for each part of a run; None where it has no such part."""
    labels: dict[str, str | None] = {"source": None}
    for group in GROUPS:
        options = group_options(run, group)
        attack = attack_label(run.evaluated.options) if group == "attack" else None
        labels[group] = (
            None
            if options is None
            else names.get((group, _canonical_text(options))) or attack or built_name(options)
        )
    if "target_acc" in run.evaluated.result:
        source = None if run.source is None else network_label(run.source, names)
        labels["source"] = source or names.get(("source", run.evaluated.key), "not recorded")
    return labels


def network_label(line: tuple[StoredStage, ...], names: Names) -> str:
    """Return a network in a few words: ``hydra 0.99``, ``dense``, or its file's name."""
    run = Run(line)
    pruned = run.stage("pruned")
    if pruned is None:
        return str(run.dense.result.get("foreign") or "dense")
    pruner = names.get(("pruner", _canonical_text(pruned.options["pruner"]))) or built_name(
        pruned.options["pruner"]
    )
    return f"{pruner} {run.final.result.get('ratio', pruned.result['ratio']):g}"


def built_name(options: object) -> str:
    """Return a name for options: a data set's own, or the outermost function that they build."""
    if isinstance(options, dict) and isinstance(options.get("name"), str):
        return str(options["name"])
    name = " ".join(_targets(options)[:1]) or "unnamed"
    if isinstance(options, dict) and options.get("process"):
        return "_".join(filter(None, (name.lower(), options.get("unit"))))
    return name


def _targets(options: object) -> list[str]:
    if not isinstance(options, dict):
        return []
    outer = [str(options["_target_"]).rpartition(".")[2]] if "_target_" in options else []
    return outer + [name for value in options.values() for name in _targets(value)]


def _canonical_text(options: object) -> str:
    return json.dumps(canonical(options), sort_keys=True)
