"""What a reader calls a run: the words of the command that made it, or else the names of what its options build."""

import json
from collections.abc import Iterable
from typing import Any

from advprune.report.data.attack_names import called
from advprune.report.data.runs import Found, Run
from advprune.store.keys import canonical

GROUPS = ("dataset", "model", "objective", "pruner", "quantizer", "attack")
Names = dict[tuple[str, str], str]  # (group, its options) -> what a command line called them


def of_group(run: Run, group: str) -> Any:
    """The options that a group contributed to this run; None if it has no such part."""
    if group in ("dataset", "attack"):
        return run.evaluated.options[group]
    if (
        group == "objective"
    ):  # of the first stage that trained: no file's network was trained by any of ours
        return next(
            (s.options["objective"] for s in run.line if {"training", "recipe"} & s.options.keys()),
            None,
        )
    kinds = {"model": "dense", "pruner": "pruned", "quantizer": "quantized"}
    stage = run.stage(kinds[group])
    return None if stage is None else stage.options.get(group)


def learned(runs: Iterable[Run], tables: Iterable[list[dict[str, Any]]]) -> Names:
    """What commands called these options, from the tables of their jobs; of several names the shortest."""
    rows = {row["files"]["evaluated"].rpartition("/")[2]: row for table in tables for row in table}
    names: Names = {}
    for run in runs:
        row = rows.get(run.evaluated.key, {})
        for group in GROUPS:
            options, name = of_group(run, group), row.get(group)
            if options is not None and name:
                at = (group, _text(options))
                names[at] = min(names.get(at, name), str(name), key=lambda word: (len(word), word))
        if row.get("source"):
            names["source", run.evaluated.key] = row["source"]
    return names


def words(run: Run, names: Names) -> dict[str, str | None]:
    """What to call each part of a run; None where it has none."""
    told: dict[str, str | None] = {"source": None}
    for group in GROUPS:
        options = of_group(run, group)
        own = called(run.evaluated.options) if group == "attack" else None
        told[group] = (
            None if options is None else names.get((group, _text(options))) or own or built(options)
        )
    if "target_acc" in run.evaluated.result:
        recorded = None if run.source is None else network(run.source, names)
        told["source"] = recorded or names.get(("source", run.evaluated.key), "not recorded")
    return told


def network(line: tuple[Found, ...], names: Names) -> str:
    """A network in a few words: ``hydra 0.99``, ``dense``; the model first where it is another's examples."""
    run = Run(line)
    pruned = run.stage("pruned")
    if pruned is None:
        return str(run.dense.result.get("foreign") or "dense")
    pruner = names.get(("pruner", _text(pruned.options["pruner"]))) or built(
        pruned.options["pruner"]
    )
    return f"{pruner} {run.final.result.get('ratio', pruned.result['ratio']):g}"


def built(options: Any) -> str:
    """The names of what options build, outermost first; of a data set its own."""
    if isinstance(options, dict) and isinstance(options.get("name"), str):
        return str(options["name"])
    if isinstance(options, dict) and options.get("search"):
        return "hydra" if options.get("unit") is None else f"hydra_{options['unit']}"
    return " ".join(_targets(options)[:1]) or "unnamed"


def _targets(options: Any) -> list[str]:
    if not isinstance(options, dict):
        return []
    own = [str(options["_target_"]).rpartition(".")[2]] if "_target_" in options else []
    return own + [name for value in options.values() for name in _targets(value)]


def _text(options: Any) -> str:
    return json.dumps(canonical(options), sort_keys=True)


def differences(lines: list[tuple[Found, ...]]) -> list[str]:
    """What tells runs apart that are called the same: for each, ``stage.option=value`` of the options that differ."""
    flat = [
        {f"{s.kind}.{name}": value for s in line for name, value in _flat(s.identity)}
        for line in lines
    ]
    every = sorted({name for options in flat for name in options})
    told = [name for name in every if len({repr(options.get(name)) for options in flat}) > 1]
    return [
        " ".join(f"{name}={_short(options[name])}" for name in told if name in options)
        for options in flat
    ]


def _flat(options: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif name != "_partial_":
            yield f"{prefix}{name}", value


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return (
        str(value)[:8]
        if isinstance(value, str) and len(value) == 64
        else str(value).replace(" ", "")
    )
