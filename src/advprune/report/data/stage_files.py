"""Parse ``result.json`` and ``config.yaml`` of a stage, and reject what no stage writes.

A store may hold files that somebody else wrote; whatever is wrong with one is a ``ValueError``.
"""

import json
import math
from typing import Any

import yaml

#: libyaml's loader where it is there: ten times as fast, and as safe (plain values only).
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Fields that every result has, and those that an evaluation's has besides.
FIELDS: dict[str, tuple[type, ...]] = {"parent": (str, type(None)), "seconds": (int, float)}
EVALUATED: dict[str, tuple[type, ...]] = {
    "images": (int,),
    "of": (int,),
    "threat": (dict,),
    "doubts": (list,),
}


def result_in(text: str, kind: str) -> dict[str, Any]:
    """Return the contents of a stage's ``result.json``.

    Raises:
        ValueError: if it is not JSON, or not what a stage of this kind writes.
    """
    try:
        result = json.loads(text, parse_constant=_reject_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(result, dict) or "parent" not in result:
        raise ValueError("it names no parent stage")
    for name, types in (FIELDS | (EVALUATED if kind == "evaluated" else {})).items():
        if not isinstance(result.get(name), types) or isinstance(result[name], bool):
            raise ValueError(f"its {name} is {result.get(name)!r}, which no {kind} stage writes")
    for name, value in result.items():
        if name.endswith("_acc") and value is not None and not _is_share(value):
            raise ValueError(f"its {name} is {value!r}, which is no share")
    if kind == "evaluated" and not result.keys() & {"robust_acc", "certified_acc"}:
        raise ValueError("it has neither robust_acc nor certified_acc")
    return result


def options_in(text: str) -> dict[str, Any]:
    """Return the contents of a stage's ``config.yaml``.

    Raises:
        ValueError: if it is not YAML, or not what a stage writes: a dict without aliases.
    """
    try:
        # a few lines of aliases can stand for more values than there is memory
        if "*" in text and any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=LOADER)
        ):
            raise ValueError("it has aliases, which no stage writes")
        options = yaml.load(text, Loader=LOADER)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(
            str(error).splitlines()[0] if isinstance(error, yaml.YAMLError) else "too deeply nested"
        ) from None
    if not isinstance(options, dict):
        raise ValueError("it is empty" if options is None else "it holds no options")
    for name in ("dataset", "attack", "pruner", "model", "objective"):
        if not isinstance(options.get(name, {}), dict):
            raise ValueError(f"its {name} is {str(options[name])[:40]!r} and no options")
    return options


def _is_share(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value <= 1
    )


def _reject_constant(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON's")
