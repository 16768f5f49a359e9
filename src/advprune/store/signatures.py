"""Read from source the arguments with which a configuration node calls its ``_target_``.

So a deleted option, which leaves its target at the default of its signature, is understood without
importing torch, in the second in which a finished job is found. What source does not tell (a
decorated function, a computed default) is imported.
"""

import ast
import importlib.util
import inspect
from functools import cache
from pathlib import Path
from typing import Any

from advprune.store.keys import TARGET

Defaults = dict[str, Any]


class UntoldError(Exception):
    """Signal that source alone does not tell a signature."""


def bound(node: object) -> Any:
    """Return the node with the defaults of what it calls filled in, at any depth.

    A null stays where the default is something else; where null is the default, or no argument at
    all (an option that the harness reads), it is left out, so that it is the same as an option that
    is not set.
    """
    if isinstance(node, list):
        return [bound(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    arguments = {name: bound(value) for name, value in node.items()}
    if TARGET not in node:
        return arguments
    known_defaults = defaults(str(node[TARGET]))
    explicit = {
        name: value
        for name, value in arguments.items()
        if value is not None or known_defaults.get(name) is not None
    }
    return explicit | {
        name: value
        for name, value in known_defaults.items()
        if name not in arguments and _plain(value)
    }


def _plain(value: object) -> bool:
    """Return whether a default can be written in a configuration, and says something there."""
    if isinstance(value, list | tuple):
        return all(inner is None or _plain(inner) for inner in value)
    return isinstance(value, bool | int | float | str)


@cache
def defaults(dotted: str) -> Defaults:
    """Return the arguments that have a default, with it; empty if the path names nothing.

    Args:
        dotted: path of a function or class, such as ``advprune.attacks.pgd.pgd``.
    """
    try:
        return _read(*_parsed(dotted))
    except UntoldError:
        return _imported(dotted)


def _parsed(dotted: str) -> tuple[ast.Module, str]:
    """Parse the module of a dotted path; return it and the name inside it."""
    module, _, name = dotted.rpartition(".")
    try:
        spec = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise UntoldError(dotted)
    return ast.parse(Path(spec.origin).read_text()), name


def _read(module: ast.Module, name: str) -> Defaults:
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _of_function(module, node)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(module, node)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return defaults(f"{node.module}.{alias.name}")
    raise UntoldError(name)


def _of_class(module: ast.Module, node: ast.ClassDef) -> Defaults:
    """Read ``__init__``, a dataclass's fields, or the base class."""
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return _of_function(module, inner)
    if node.decorator_list:
        return _of_dataclass(module, node)
    if len(node.bases) == 1 and isinstance(node.bases[0], ast.Name):
        return _read(module, node.bases[0].id)
    raise UntoldError(node.name)


def _of_dataclass(module: ast.Module, node: ast.ClassDef) -> Defaults:
    """Read a dataclass's fields, and those of the dataclasses it comes from."""
    if not all("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        raise UntoldError(node.name)
    fields: Defaults = {}
    for base in node.bases:
        # one of another library, such as pl.LightningDataModule, is no dataclass: it has no field
        if isinstance(base, ast.Name):
            fields |= _read(module, base.id)
    for inner in (part for part in node.body if isinstance(part, ast.AnnAssign)):
        value = inner.value
        if value is not None and ast.unparse(value) != "field()":  # which is no default
            fields[ast.unparse(inner.target)] = _value(module, value)
    return fields


def _of_function(module: ast.Module, node: ast.FunctionDef) -> Defaults:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [
        *zip(
            positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True
        ),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {argument.arg: _value(module, value) for argument, value in pairs if value is not None}


def _value(module: ast.Module, node: ast.expr | None) -> Any:
    """Evaluate a default; a function's name stays a node, which no configuration can hold."""
    assert node is not None
    try:
        return ast.literal_eval(node)
    except ValueError:
        if (
            isinstance(node, ast.Name | ast.Attribute)
            and ast.unparse(node).rpartition(".")[2].islower()
        ):
            return node
        for statement in module.body:
            if (
                isinstance(statement, ast.Assign)
                and isinstance(node, ast.Name)
                and node.id in map(ast.unparse, statement.targets)
            ):
                return _value(module, statement.value)
        raise UntoldError(ast.unparse(node)) from None


def _imported(dotted: str) -> Defaults:
    """Ask the imported object; a path that names nothing is refused later, by ``validate``."""
    module, _, name = dotted.rpartition(".")
    try:
        parameters = inspect.signature(
            getattr(importlib.import_module(module), name)
        ).parameters.values()
    except (ImportError, AttributeError, TypeError, ValueError):
        return {}
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.default is not parameter.empty
    }
