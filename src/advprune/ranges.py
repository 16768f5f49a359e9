"""Declare the type and range of an option as an annotation, and read numbers as papers write them.

``steps: Count`` in the signature of an attack is all it takes: the command line, YAML files and
Python callers are held to it. A number is finite unless its annotation says otherwise.
"""

import enum
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Annotated, Any, TypeAlias

from annotated_types import Ge, Gt, Le, Lt, Predicate

from advprune.errors import UserError
from advprune.range_errors import MOST, Hint, not_allowed

#: Significant digits by which two numbers of the options are told apart; a float has 15 to 17.
DIGITS = 12
_QUOTIENT = re.compile(r"\s*-?\d+(\.\d+)?\s*/\s*\d+(\.\d+)?\s*")


def is_quotient(text: str) -> bool:
    """Return whether a text is a quotient such as ``8/255``."""
    return bool(_QUOTIENT.fullmatch(text)) and float(text.partition("/")[2]) != 0


def fraction(value: str | float) -> float:
    """Read ``8/255``, ``"0.3"`` or ``0.3`` as a float.

    Raises:
        UserError: if ``value`` is neither a number nor a quotient of two.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        numerator, _, denominator = str(value).partition("/")
        return float(Fraction(numerator.strip()) / Fraction(denominator.strip() or "1"))
    except (ValueError, ZeroDivisionError):
        raise UserError(
            f"{value!r} is not a number; write it as 0.3 or as a fraction such as 8/255"
        ) from None


def number(value: float | str) -> float:
    """Round a number to ``DIGITS`` significant digits, so that it has one spelling.

    0.96 and a swept 0.9600000000000001 become one. Whole numbers stay exact, and -0.0 is 0.0; NaN
    and the infinities are themselves.
    """
    exact = float(value)
    return exact + 0.0 if exact.is_integer() else float(f"{exact:.{DIGITS}g}")


def decimal(value: float | str) -> Fraction:
    """Return exactly the decimal that a person wrote: 0.9 is 9/10, whatever float holds it."""
    return Fraction(repr(number(value)))


Count: TypeAlias = Annotated[int, Ge(1), Le(MOST)]
Natural: TypeAlias = Annotated[int, Ge(0), Le(MOST)]
Width: TypeAlias = Annotated[int, Ge(1), Le(65536)]
Depth: TypeAlias = Annotated[int, Ge(1), Le(2000)]
Side: TypeAlias = Annotated[int, Ge(1), Le(4096)]
#: What torch, NumPy and Lightning all take.
Seed: TypeAlias = Annotated[int, Ge(0), Le(2**32 - 1)]
Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
ShareBelowOne: TypeAlias = Annotated[float, Ge(0), Lt(1)]
OpenShare: TypeAlias = Annotated[float, Gt(0), Lt(1)]
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
#: Of an option that is a threat's radius.
PIXEL_UNITS = Hint("eps is in [0, 1] pixel units; for eight grey levels write 8/255")


def range_error(path: str, value: object, annotation: object) -> str | None:
    """Return the error about a value that an annotation does not allow, or None if it does.

    Args:
        path: what the user calls the option, such as ``training.momentum``.
        value: the value, as parsed from the command line or as passed from Python.
        annotation: a type, such as ``Annotated[float, Ge(0)]`` or a union of several.
    """
    if isinstance(value, int) and abs(value) >= 2**63:
        return f"{path}={value:.3g} is not possible: no whole number here is so large"
    number = fraction(value) if isinstance(value, str) and is_quotient(value) else value
    if _validator(annotation)(number):
        return None
    return not_allowed(path, value, number, members(annotation))


def refuse_outside(function: object, **values: object) -> None:
    """Check arguments of a call from Python against the function's own annotations.

    Args:
        function: the function, or class, that takes the arguments.
        **values: the arguments by name.

    Raises:
        UserError: the sentence of ``range_error`` about the first argument that is not allowed.
    """
    for argument, value in values.items():
        plain = (
            tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        )
        error = _refusal(function, argument, plain)
        if error:
            raise UserError(error)


@functools.lru_cache(maxsize=1024, typed=True)
def _refusal(function: Any, argument: str, value: Any) -> str | None:
    """Return the error about an argument; cached, for training steps check the same ones again.

    The cache is typed, so 1, 1.0 and True are three values.
    """
    plain = list(value) if isinstance(value, tuple) else value
    return range_error(f"{function.__name__}: {argument}", plain, _hints(function)[argument])


@functools.cache
def _hints(function: object) -> dict[str, Any]:
    function = function.__init__ if inspect.isclass(function) else function
    return typing.get_type_hints(function, include_extras=True)


@functools.lru_cache(maxsize=512)
def _validator(annotation: Any) -> Callable[[object], bool]:
    """Return the function that says whether an annotation allows a value; made once for all."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    classes = filter(inspect.isclass, members(annotation))
    enums = tuple(each for each in classes if issubclass(each, enum.Enum))
    if enums == (annotation,):
        return lambda value: _is_member(value, enums)
    try:
        config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
        adapter = TypeAdapter(annotation, config=config)
    except PydanticUserError:  # a dataclass has a configuration of its own
        adapter = TypeAdapter(annotation)

    def allows(value: object) -> bool:
        if enums and _is_member(value, enums):
            return True
        if isinstance(value, str) and value.lower() in ("nan", "inf", "-inf"):
            value = float(value)
        try:
            adapter.validate_python(value, strict=True)
        except (ValidationError, OverflowError):
            return False
        return True

    return allows


def _is_member(value: object, enums: tuple[type[enum.Enum], ...]) -> bool:
    """Return whether a value is a member of an enum, or the name of one."""
    named = isinstance(value, str) and any(value in one.__members__ for one in enums)
    return named or isinstance(value, enums)


def members(annotation: object) -> tuple[Any, ...]:
    """Return the types of a union, or the one type."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(inner for member in typing.get_args(annotation) for inner in members(member))
    return (annotation,)
