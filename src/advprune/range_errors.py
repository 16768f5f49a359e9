"""Write the error about an option that is outside of its range; ``ranges.py`` finds it."""

import enum
import inspect
import math
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, Predicate

#: The largest count. More of anything is a slip of the finger: a loop that long does not end.
MOST = 10**9
_WORDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}
_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


@dataclass(frozen=True)
class Hint:
    """Metadata of an annotation: what the number means and how to write it."""

    text: str


def not_allowed(path: str, value: object, number: object, union: tuple[Any, ...]) -> str:
    """Return the sentence about a value that no member of a union allows.

    Args:
        path: what the user calls the option, such as ``training.momentum``.
        value: as given.
        number: the value of a quotient such as ``8/255``; else ``value``.
        union: the types that are allowed.
    """
    allowed = _range_only(number, union) or _in_words(union)
    return f"{path}={as_typed(value)} is not possible: it must be {allowed}{_hint(union)}"


def as_typed(value: object) -> str:
    """Write the value as a command line would."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value) if isinstance(value, str) and not value.strip() else str(value)


def _hint(union: tuple[Any, ...]) -> str:
    """Return the explanation that an annotation adds to its range, if any."""
    metadata = (note for member in union for note in typing.get_args(member)[1:])
    return "".join(f"; {note.text}" for note in metadata if isinstance(note, Hint))


def _range_only(value: object, union: tuple[Any, ...]) -> str | None:
    """Describe the range alone, and null if allowed, where the value is a number of that kind."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    for member in union:
        base, bounds = _base_and_bounds(member, value)
        if bounds and (
            base is float or (base is int and float(value).is_integer() and isinstance(value, int))
        ):
            return bounds + (", or null" if type(None) in union else "")
    return None


def _base_and_bounds(annotation: object, value: float = 0) -> tuple[Any, str]:
    if typing.get_origin(annotation) is not Annotated:
        return annotation, ""
    base, *metadata = typing.get_args(annotation)
    ends = [
        (_WORDS[type(m)][1], getattr(m, _WORDS[type(m)][0])) for m in metadata if type(m) in _WORDS
    ]
    limits = [f"{word} {end:.15g}" for word, end in ends if end != MOST or value > MOST]
    return base, " and ".join(limits)


def _in_words(union: tuple[Any, ...]) -> str:
    """Describe the types: ``a whole number, at least 1 and at most 1000, or null``."""
    parts = [part for member in union if (part := _member_in_words(member))]
    return ", or ".join(dict.fromkeys(parts))


def _member_in_words(annotation: object) -> str:
    base, bounds = _base_and_bounds(annotation)
    origin, inner = typing.get_origin(base), typing.get_args(base)
    if base is str and any(isinstance(m, Predicate) for m in typing.get_args(annotation)[1:]):
        return "a fraction such as 8/255"
    if origin is Literal:
        choices = [as_typed(choice) for choice in inner]
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    if inspect.isclass(base) and issubclass(base, enum.Enum):
        return f"one of {', '.join(base.__members__)}"
    if origin in (list, tuple):
        return f"a list, each {_member_in_words(inner[0])}" if inner else "a list"
    if origin is dict:
        return "NAME: VALUE pairs"
    name = _NAMES.get(base) or f"a {getattr(base, '__name__', str(base))}"
    return f"{name}, {bounds}" if bounds else name
