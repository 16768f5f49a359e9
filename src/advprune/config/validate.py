"""Check every option before anything is loaded or trained: a typo costs a second, not a night.

What an option may be is declared once, as an annotation: a method's own in its signature, the
others in ``schema.py`` and ``groups.py``.
"""

import difflib
import importlib
import inspect
import logging
import typing
from typing import Any

from advprune.config import schema
from advprune.config.groups import (
    HARNESS,
    OF_IMAGES,
    Attack,
    Method,
    Objective,
    Pruner,
    Select,
    declared_fields,
    hints,
    is_required,
    nested,
    takes_any_option,
    typed,
)
from advprune.config.rules import check_ratio, check_together
from advprune.distributed import environment
from advprune.distributed.environment import Trainer
from advprune.errors import UserError
from advprune.range_errors import as_typed
from advprune.ranges import members, range_error
from advprune.store.keys import Node

log = logging.getLogger(__name__)

RESERVED = frozenset({"_target_", "_partial_", "_recursive_", "_convert_", "_args_"})
#: Arguments that the harness gives, to data sets, objectives, attacks and criteria as well as to
#: networks; an option need not.
INJECTED_ARGS = OF_IMAGES | frozenset(
    (
        *("name", "channels", "seed", "batch_size", "val_images", "repeats"),
        *("progress", "teacher"),
        *("positions", "source", "work", "monitor", "trail", "verdicts", "nearest"),
        *("facts", "marks"),
        *("eligible", "sites"),
    )
)


def check_numbers(options: Node) -> None:
    """Check every option for which no method need be imported.

    Raises:
        UserError: naming the option, its value and what is allowed.
    """
    declared: type
    command = "attack" if "checkpoint" in options else "prune" if "pruner" in options else "train"
    check_ratio(options.get("ratio"))
    _check_fields("", options, schema.COMMANDS[command])
    for group, declared in (
        ("select", Select),
        ("trainer", Trainer),
        ("pruner", Pruner),
    ):
        if options.get(group) is not None or group in ("select", "trainer"):
            _check_fields(group, options.get(group), declared)
    for group, declared in HARNESS.items():
        node = options.get(group) or {}
        if group != "quantizer" or node.get("_target_") is not None:
            _check_harness(group, node, declared)
    for path, node in _objectives_of(options.get("pruner") or {}):
        _check_harness(path, node, Objective)
    check_together(options)
    environment.check(typed(Trainer, options.get("trainer") or {}))


def _check_harness(path: str, node: Node, declared: type) -> None:
    """Check the options of a node that the harness reads itself."""
    names = {option.name for option in declared_fields(declared)}
    _check_fields(path, {name: value for name, value in node.items() if name in names}, declared)


def _check_fields(path: str, node: object, declared: type) -> None:
    """Compare the values of a node, and of nodes inside it, with a dataclass's annotations."""
    place = f"{path}." if path else ""
    if not isinstance(node, dict):
        raise UserError(
            f"{path}={as_typed(node)} is not possible: it is a group of options, {place}NAME=VALUE "
            "each"
        )
    annotations, inner = hints(declared), nested(declared)
    for name, value in node.items():
        if name in RESERVED:
            continue
        if name not in annotations:
            raise UserError(_no_option(path, str(name), sorted(annotations)))
        _check_value(f"{place}{name}", value, annotations[name], inner.get(name))
    for option in declared_fields(declared):
        if option.name not in node and is_required(option):
            raise UserError(f"{place}{option.name} is missing: give {place}{option.name}=…")


def _check_value(path: str, value: object, annotation: object, inner: type | None) -> None:
    """Compare a value with its annotation; that of a method is checked with its signature."""
    if inner is Method:
        annotation = dict[str, Any] | None
    elif inner is not None:
        if value is not None or type(None) not in members(annotation):
            _check_fields(path, value, inner)
        return
    message = None if annotation is Any else range_error(path, value, annotation)
    if message:
        raise UserError(message)


def _no_option(path: str, name: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    meant = f"did you mean {f'{path}.' if path else ''}{close[0]}? " if close else ""
    return f"{path or 'this command'} has no option {name}: {meant}it has {', '.join(allowed)}"


#: Nodes of a pruner in which an objective lies.
OWN_CALLS = ("objective", "parent")


def check_signatures(options: Node, groups: tuple[str, ...]) -> None:
    """Compare every ``_target_`` of these groups with its signature.

    Raises:
        UserError: naming the option, its value and what is allowed.
    """
    if "attack" in groups:
        _check_attack_eps(options)
    for group in groups:
        if options.get(group) and options[group].get("_target_", group) is not None:
            _check_node(group, method_of(group, options[group]).node)
    for path, node in _objectives_of(options.get("pruner") or {}):
        _check_node(path, typed(Objective, node).method.node)
    objective = typed(Objective, options.get("objective") or {})
    for phase in objective.phases or {}:
        _check_node(f"objective.phases.{phase}", objective.in_phase(phase).method.node)


def _objectives_of(pruner: Node) -> list[tuple[str, Node]]:
    """Return the objectives that train a process, and the network that it starts from."""
    parent = pruner.get("parent") or {}
    nodes = [("pruner.objective", pruner), ("pruner.parent.objective", parent)]
    return [(path, node["objective"]) for path, node in nodes if node.get("objective") is not None]


def without_strays(attack: Node, words: list[str]) -> Node:
    """Return an attack's options without those that an experiment sets for its own attack.

    ``experiment=E attack=pgd``, and ``from=`` of what an experiment made, choose another attack
    than E's, which has other options. Those that the command itself gives stay, to be refused.

    Args:
        attack: the options of the group.
        words: of the command.
    """
    names = {word.partition("=")[0].lstrip("+") for word in words}
    if not {"attack", "experiment"} <= names:
        return attack
    parameters = inspect.signature(import_target("attack", attack["_target_"])).parameters
    if takes_any_option(parameters):
        return attack
    known = RESERVED | parameters.keys() | {option.name for option in declared_fields(Attack)}
    strays = [name for name in attack if name not in known and f"attack.{name}" not in names]
    if strays:
        listed = ", ".join(f"attack.{name}" for name in strays)
        log.info("the experiment's %s is left out: this attack has no such option", listed)
    return {name: value for name, value in attack.items() if name not in strays}


def method_of(group: str, node: Node) -> Method:
    """Return what a group calls, without the options that the harness reads itself.

    A pruner's objectives are calls of their own.
    """
    if group in HARNESS:
        return typed(HARNESS[group], node).method
    return Method({name: value for name, value in node.items() if name not in OWN_CALLS})


def _check_attack_eps(options: Node) -> None:
    """Check the attack's radius against the norm's range, under the name that the user wrote."""
    eps = options["attack"].get("eps")
    if eps is None:
        return
    norm = import_target("threat", options["threat"]["_target_"])
    message = range_error(
        "attack.eps", eps, typing.get_type_hints(norm.__init__, include_extras=True)["eps"]
    )
    if message:
        raise UserError(message)


def _check_node(path: str, node: object) -> None:
    if isinstance(node, list):
        for index, item in enumerate(node):
            _check_node(f"{path}[{index}]", item)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        _check_node(f"{path}.{key}", value)
    if "_target_" in node:
        _check_call(path, node)


def _check_call(path: str, node: Node) -> None:
    target = import_target(path, node["_target_"])
    parameters = inspect.signature(target).parameters
    if takes_any_option(parameters):
        return
    positional = {
        name
        for name, p in parameters.items()
        if node.get("_partial_") and p.kind is not p.KEYWORD_ONLY
    }
    allowed = [
        name for name in parameters if name not in (INJECTED_ARGS | positional) or name in node
    ]
    for name in node.keys() - RESERVED - parameters.keys():
        raise UserError(_no_option(path, name, allowed))
    for name, parameter in parameters.items():  # (model, x, y) come with the call
        if (
            name not in node
            and parameter.default is parameter.empty
            and name not in INJECTED_ARGS
            and name not in positional
        ):
            raise UserError(
                f"{path}.{name} is missing; {target.__name__} needs it: give {path}.{name}=…"
            )
    hints = typing.get_type_hints(
        target.__init__ if inspect.isclass(target) else target, include_extras=True
    )
    for name in node.keys() - RESERVED:
        filled_in = name in INJECTED_ARGS and node[name] is None  # null leaves it to the harness
        if name in hints and not filled_in and not _holds_target(node[name]):
            message = range_error(f"{path}.{name}", node[name], hints[name])
            if message:
                raise UserError(message)


def import_target(path: str, dotted: str) -> Any:
    """Return what a dotted path names.

    Raises:
        UserError: naming the option that has the path, ``path._target_``, and what is wrong.
    """
    try:
        return _located(dotted)
    except Exception as error:  # whatever a user's module raises while it is imported
        raise UserError(
            f"{path}._target_={dotted} cannot be imported ({type(error).__name__}: {error}): give "
            "the dotted path of a class or function, MODULE.NAME"
        ) from error


def _located(dotted: str) -> Any:
    """Return what a dotted path names: an attribute of a module, or of a class inside one."""
    module, _, name = dotted.rpartition(".")
    try:
        owner = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module or "." not in module:
            raise
        owner = _located(module)
    return getattr(owner, name)


def _holds_target(value: object) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(_holds_target(item) for item in value.values())
    return isinstance(value, list) and any(_holds_target(item) for item in value)
