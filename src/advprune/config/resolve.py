"""Resolve the job's options to plain values, and name it for its table."""

import re
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from advprune.errors import UserError
from advprune.ranges import number
from advprune.store import keys

#: A float with more digits than a person writes: what a range steps to, such as 0.9600000000000001.
_SWEPT = re.compile(r"\d*\.\d{12,}(e[-+]?\d+)?", re.IGNORECASE)
#: Options that name a file or a folder: at the root, and inside any group.
PATHS = frozenset({"store", "dense", "checkpoint", "source"})
INNER_PATHS = frozenset({"root", "content", "cache", "extra", "test", "folder"})
#: In the order they are checked: other groups repeat the threat.
GROUPS = ("threat", "dataset", "model", "objective", "pruner", "quantizer", "attack")


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """Return all options with their interpolations filled in; enums as their names.

    Raises:
        UserError: if an interpolation points nowhere.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the options do not fit together: {str(error).splitlines()[0]}") from None
    assert isinstance(plain, dict)
    return _with_attack_eps(
        _one_budget(_where_typed({str(key): spelled(value) for key, value in plain.items()}))
    )


def spelled(value: Any) -> Any:
    """Return the options with each float in its one spelling, for computing and hashing alike."""
    if isinstance(value, dict):
        return {key: spelled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [spelled(inner) for inner in value]
    return number(value) if isinstance(value, float) else value


def _where_typed(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with paths as they were meant where the command was typed."""
    return {
        name: typed_path(value)
        if name in PATHS and (name, value) != ("source", "self")
        else {
            key: typed_path(inner) if key in INNER_PATHS else inner for key, inner in value.items()
        }
        if isinstance(value, dict)
        else value
        for name, value in options.items()
    }


def typed_path(path: Any) -> Any:
    """Return a path without ``~``, absolute where Hydra has changed the working folder.

    What is no text is returned unchanged.
    """
    if not isinstance(path, str):
        return path
    home = str(Path(path).expanduser()) if path.startswith("~") else path
    typed_in = HydraConfig.get().runtime.cwd if HydraConfig.initialized() else None
    return str(Path(typed_in, home)) if typed_in and Path(typed_in) != Path.cwd() else home


def _with_attack_eps(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with ``attack.eps`` in every ball inside the attack.

    Training keeps ``threat.eps``; a ball that the user wrote differently is left as it is.
    """
    eps = (options.get("attack") or {}).get("eps")
    if eps is None:
        return options

    def with_eps(node: Any) -> Any:
        if node == options["threat"]:
            return node | {"eps": eps}
        if isinstance(node, dict):
            return {name: with_eps(value) for name, value in node.items()}
        return [with_eps(value) for value in node] if isinstance(node, list) else node

    return options | {"attack": with_eps(options["attack"])}


def _one_budget(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with either ``ratio`` or ``compression``.

    What the command line says comes first, then what a preset sets.

    Raises:
        UserError: if the command line gives both.
    """
    if options.get("compression") is None:
        return options
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    typed_options = {override.lstrip("+").partition("=")[0] for override in overrides}
    if {"ratio", "compression"} <= typed_options and options["ratio"] is not None:
        raise UserError(
            f"ratio={options['ratio']:g} and compression={options['compression']:g} are two "
            "answers to one question: give the share removed, or how many times smaller the "
            "network becomes"
        )
    return options | {"compression" if "ratio" in typed_options else "ratio": None}


def names() -> dict[str, str]:
    """Return the chosen member of each group, with changed options: ``resnet20 depth=32``."""
    hydra = HydraConfig.get()
    chosen = {
        group: str(hydra.runtime.choices.get(group))
        for group in GROUPS
        if hydra.runtime.choices.get(group)
    }
    if hydra.runtime.choices.get("model@source_model"):
        chosen["source_model"] = str(hydra.runtime.choices["model@source_model"])
    for override in hydra.overrides.task:
        name, _, value = override.lstrip("+").partition("=")
        value = shown(value)
        outer, _, inner = name.partition("/")
        if inner and outer in chosen:  # a group within a group: filters hrank
            chosen[outer] += f" {value}"
        group, _, option = name.partition(".")
        if option and group in chosen and option not in keys.WHERE:  # a path names nothing
            chosen[group] += f" {option}={value}"
    return chosen


def shown(value: str) -> str:
    """Return a value as a person would write it: ``0.96`` for a swept ``0.9600000000000001``."""
    return _SWEPT.sub(lambda digits: str(number(digits[0])), value)
