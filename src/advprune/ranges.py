"""The type and range of an option, declared once as an annotation, and the error about others.

``steps: Count`` in the signature of an attack is all it takes: the command line, YAML files and
Python callers are held to it. A number is finite unless its annotation says otherwise.
"""

import enum
import functools
import inspect
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Lt, Predicate

from advprune.errors import UserError
from advprune.units import is_quotient, quotient

#: The largest count. More of anything is a slip of the finger: a loop that long does not end.
MOST = 10**9
Count: TypeAlias = Annotated[int, Ge(1), Le(MOST)]
Natural: TypeAlias = Annotated[int, Ge(0), Le(MOST)]
Width: TypeAlias = Annotated[int, Ge(1), Le(65536)]
Depth: TypeAlias = Annotated[int, Ge(1), Le(2000)]
Side: TypeAlias = Annotated[int, Ge(1), Le(4096)]
#: What torch, NumPy and Lightning all take.
Seed: TypeAlias = Annotated[int, Ge(0), Le(2**32 - 1)]
Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
ShareBelowOne: TypeAlias = Annotated[float, Ge(0), Lt(1)]
Positive: TypeAlias = Annotated[float, Gt(0)]
#: A multiple of a network's published widths.
Factor: TypeAlias = Annotated[float, Gt(0), Le(64)]
#: A length as a share of eps, or in pixel units: what is longer goes to the edge in any case.
Length: TypeAlias = Annotated[float, Gt(0), Le(1000)]
Weight: TypeAlias = Annotated[float, Ge(0)]
#: Training images that are held out for validation: a number of them, or a share.
Held: TypeAlias = Natural | ShareBelowOne
#: ``8/255``, as papers write radii.
Quotient: TypeAlias = Annotated[str, Predicate(is_quotient)]


@dataclass(frozen=True)
class Hint:
    """Metadata of an annotation: what the number means and how to write it."""

    text: str


#: Of an option that is a threat's radius.
PIXEL_UNITS = Hint("eps is in [0, 1] pixel units; for eight grey levels write 8/255")

_WORDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}
_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


def needs(path: str, value: Any, annotation: Any) -> str | None:
    """Return the error about a value that an annotation does not allow, or None if it does.

    Args:
        path: what the user calls the option, such as ``training.momentum``.
        value: the value, as parsed from the command line or as passed from Python.
        annotation: a type, such as ``Annotated[float, Ge(0)]`` or a union of several.
    """
    if isinstance(value, int) and abs(value) >= 2**63:
        return f"{path}={value:.3g} is not possible: no whole number here is so large"
    if _allowed(
        quotient(value) if isinstance(value, str) and is_quotient(value) else value, annotation
    ):
        return None
    allowed = _range_only(value, annotation) or described(annotation)
    return f"{path}={shown(value)} is not possible: it must be {allowed}{_hint(annotation)}"


def _hint(annotation: Any) -> str:
    """Return the explanation that the annotation adds to its range, if any."""
    metadata = (note for member in members(annotation) for note in typing.get_args(member)[1:])
    return "".join(f"; {note.text}" for note in metadata if isinstance(note, Hint))


def refuse_outside(function: Any, **values: Any) -> None:
    """Check arguments of a call from Python against the function's own annotations.

    Args:
        function: the function, or class, that takes the arguments.
        **values: the arguments by name.

    Raises:
        UserError: the sentence of ``needs`` about the first argument that is not allowed.
    """
    for argument, value in values.items():
        plain = (
            tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        )
        error = _refusal(function, argument, plain)
        if error:
            raise UserError(error)


def shown(value: Any) -> str:
    """Write the value as a command line would."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value) if isinstance(value, str) and not value.strip() else str(value)


@functools.lru_cache(maxsize=1024, typed=True)
def _refusal(function: Any, argument: str, value: Any) -> str | None:
    """Return the error about an argument; cached, for training steps check the same ones again.

    The cache is typed, so 1, 1.0 and True are three values.
    """
    plain = list(value) if isinstance(value, tuple) else value
    return needs(f"{function.__name__}: {argument}", plain, _hints(function)[argument])


@functools.cache
def _hints(function: Any) -> dict[str, Any]:
    function = function.__init__ if inspect.isclass(function) else function
    return typing.get_type_hints(function, include_extras=True)


def _allowed(value: Any, annotation: Any) -> bool:
    from pydantic import ValidationError

    if _is_enum(annotation):
        return value in annotation.__members__ or isinstance(value, annotation)
    if isinstance(value, str) and value.lower() in ("nan", "inf", "-inf"):
        value = float(value)
    try:
        _adapter(annotation).validate_python(value, strict=True)
    except (ValidationError, OverflowError):
        return False
    return True


@functools.lru_cache(maxsize=512)
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(
            annotation, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
        )
    except PydanticUserError:  # a dataclass has a configuration of its own
        return TypeAdapter(annotation)


def _is_enum(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, enum.Enum)


def _range_only(value: Any, annotation: Any) -> str | None:
    """Describe the range alone, and null if allowed, where the value is a number of that kind."""
    if isinstance(value, str) and is_quotient(value):
        value = quotient(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    union = members(annotation)
    for member in union:
        base, bounds = _parts(member, value)
        if bounds and (
            base is float or (base is int and float(value).is_integer() and isinstance(value, int))
        ):
            return bounds + (", or null" if type(None) in union else "")
    return None


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(inner for member in typing.get_args(annotation) for inner in members(member))
    return (annotation,)


def _parts(annotation: Any, value: float = 0) -> tuple[Any, str]:
    if typing.get_origin(annotation) is not Annotated:
        return annotation, ""
    base, *metadata = typing.get_args(annotation)
    ends = [
        (_WORDS[type(m)][1], getattr(m, _WORDS[type(m)][0])) for m in metadata if type(m) in _WORDS
    ]
    limits = [f"{word} {end:.15g}" for word, end in ends if end != MOST or value > MOST]
    return base, " and ".join(limits)


def described(annotation: Any) -> str:
    """Write the annotation in words: ``a whole number, at least 1 and at most 1000, or null``."""
    parts = [part for member in members(annotation) if (part := _described(member))]
    return ", or ".join(dict.fromkeys(parts))


def _described(annotation: Any) -> str:
    base, bounds = _parts(annotation)
    origin, inner = typing.get_origin(base), typing.get_args(base)
    if any(isinstance(m, Predicate) for m in typing.get_args(annotation)[1:]) and base is str:
        return "a fraction such as 8/255"
    if origin is Literal:
        return (
            f"one of {', '.join(shown(word) for word in inner)}"
            if len(inner) > 1
            else shown(inner[0])
        )
    if _is_enum(base):
        return f"one of {', '.join(base.__members__)}"
    if origin in (list, tuple):
        kind = f"a list, each {_described(inner[0])}" if inner else "a list"
        return kind
    if origin is dict:
        return "NAME: VALUE pairs"
    name = _NAMES.get(base) or f"a {getattr(base, '__name__', str(base))}"
    return f"{name}, {bounds}" if bounds else name
