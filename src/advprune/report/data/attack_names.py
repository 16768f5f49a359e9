"""Name an attack as a user would type it.

The name is the member of ``conf/attack`` that has the same function, and after it each option that
differs from the member's.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from advprune.report.data.row import Row
from advprune.store.keys import WHERE, canonical
from advprune.store.signatures import bound

CONF = Path(__file__).resolve().parents[4] / "conf" / "attack"
#: Keys that tell a reader nothing, or that have a column of their own.
UNNAMED = frozenset({"_partial_", "_target_", "perturbation", "content_id", "eps"}) | WHERE


def attack_label(evaluated: Mapping[str, Any], chosen: str | None = None) -> str | None:
    """Return the attack's name and its changed options: ``autoattack images=50 engine=fast``.

    Args:
        evaluated: resolved options of the stage that attacked: ``attack``, and the options that its
            defaults refer to.
        chosen: member that a command named; None takes the member that differs least.

    Returns:
        The label; None if no member of ``conf/attack`` has the same function.
    """
    attack = evaluated["attack"]
    candidates = {
        name: member
        for name, member in members().items()
        if member.get("_target_") == attack.get("_target_")
    }
    if chosen in candidates:
        candidates = {chosen: candidates[chosen]}
    changes = {
        name: list(_changes(attack, member, evaluated)) for name, member in candidates.items()
    }
    if not changes:
        return None
    name = min(changes, key=lambda name: (len(changes[name]), len(name), name))
    return " ".join([name, *changes[name]])


@cache
def members() -> dict[str, dict[str, Any]]:
    """Return the attacks of ``conf/attack`` by name, each with its inherited defaults filled in."""
    files = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
    return {name: bound(_merged(name, files)) for name in files if name != "frame"}


def _merged(name: str, files: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return one attack's options, those of its defaults list included."""
    merged: dict[str, Any] = {}
    for other in files[name].get("defaults", ["_self_"]):
        merged |= files[name] if other == "_self_" else _merged(other, files)
    return {key: value for key, value in merged.items() if key != "defaults"}


def _changes(
    node: Mapping[str, object],
    member: Mapping[str, object],
    context: Mapping[str, object],
    at: str = "",
) -> Iterator[str]:
    """Yield ``option=value`` for each option that differs from the member's; null is a value."""
    for name, value in node.items():
        default = _resolved_default(member.get(name), context)
        if name in UNNAMED or (isinstance(default, str) and "${" in default):
            continue
        if isinstance(value, dict) and isinstance(default, dict):
            yield from _changes(value, default, context, f"{at}{name}.")
        elif canonical(value) != canonical(default):
            yield f"{at}{name}={_text(value)}"


def _resolved_default(default: object, context: Mapping[str, object]) -> object:
    """Return a default with its ``${...}`` resolved from this run's options, where possible."""
    if not isinstance(default, str) or not default.startswith("${"):
        return default
    if default.startswith("${oc.select:"):
        return yaml.safe_load(default.rpartition(",")[2].removesuffix("}"))
    return context.get(default[2:-1], default)


def _text(value: object) -> str:
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")


def attack_text(row: Row) -> str:
    """Return the attack, its threat, and the network whose examples it uses, if any."""
    words = row["attack"] if row["eps"] is None else f"{row['attack']} {threat_text(row)}"
    return f"{words} on examples of {row['source']}" if row.get("source") else words


def threat_text(row: Row) -> str:
    """Return norm and eps as papers write them: ``linf 8/255``, ``l2 0.5``.

    Of an attack with another perturbation (a rotation), return its name in brackets.
    """
    if row.get("perturbation"):
        return f"({row['perturbation']})"
    levels = row["eps"] * 255
    size = f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{row['eps']:g}"
    return f"{row['norm']} {size}"
