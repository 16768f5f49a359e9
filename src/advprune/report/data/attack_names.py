"""What an attack is called: the member of ``conf/attack`` it is, and the options in which it is not that member's."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from advprune.store.keys import WHERE, canonical
from advprune.store.signatures import bound

CONF = Path(__file__).resolve().parents[4] / "conf" / "attack"
#: Keys that say nothing to a reader, or that the row shows in a column of its own.
SILENT = frozenset({"_partial_", "_target_", "perturbation", "content_id", "eps"}) | WHERE


def called(evaluated: dict[str, Any], chosen: str | None = None) -> str | None:
    """``autoattack images=50 engine=fast``; None if no member is made by the same function.

    Args:
        evaluated: the resolved options of the stage that attacked: ``attack``, and what that takes
            values from.
        chosen: the member that a command named; None is the nearest.
    """
    attack = evaluated["attack"]
    alike = {
        name: member
        for name, member in members().items()
        if member.get("_target_") == attack.get("_target_")
    }
    if chosen in alike:
        alike = {chosen: alike[chosen]}
    told = {name: list(_different(attack, member, evaluated)) for name, member in alike.items()}
    if not told:
        return None
    name = min(told, key=lambda name: (len(told[name]), len(name), name))
    return " ".join([name, *told[name]])


@cache
def members() -> dict[str, dict[str, Any]]:
    """The attacks of ``conf/attack``, each with the defaults it takes from the others."""
    files = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
    return {name: bound(_whole(name, files)) for name in files if name != "frame"}


def _whole(name: str, files: dict[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for other in files[name].get("defaults", ["_self_"]):
        whole |= files[name] if other == "_self_" else _whole(other, files)
    return {key: value for key, value in whole.items() if key != "defaults"}


def _different(
    node: dict[str, Any], member: dict[str, Any], context: dict[str, Any], at: str = ""
) -> Iterator[str]:
    """``option=value`` of what is not as in the member; null is a value like another."""
    for name, value in node.items():
        default = _filled(member.get(name), context)
        if name in SILENT or (isinstance(default, str) and "${" in default):
            continue
        if isinstance(value, dict) and isinstance(default, dict):
            yield from _different(value, default, context, f"{at}{name}.")
        elif canonical(value) != canonical(default):
            yield f"{at}{name}={_text(value)}"


def _filled(default: Any, context: dict[str, Any]) -> Any:
    """A default that takes its value from another option: that of this run, or what stands in for it."""
    if not isinstance(default, str) or not default.startswith("${"):
        return default
    if default.startswith("${oc.select:"):
        return yaml.safe_load(default.rpartition(",")[2].removesuffix("}"))
    return context.get(default[2:-1], default)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
