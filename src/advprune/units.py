"""Numbers as papers write them, and one spelling for each."""

import re
from fractions import Fraction

from advprune.errors import UserError

_QUOTIENT = re.compile(r"\s*-?\d+(\.\d+)?\s*/\s*\d+(\.\d+)?\s*")


def is_quotient(text: str) -> bool:
    """Return whether a text is a quotient such as ``8/255``."""
    return bool(_QUOTIENT.fullmatch(text)) and float(text.partition("/")[2]) != 0


def quotient(text: str) -> float:
    """Return the value of a quotient such as ``8/255``."""
    return fraction(text)


def fraction(value: str | float) -> float:
    """Read ``8/255``, ``"0.3"`` or ``0.3`` as a float.

    Raises:
        UserError: if ``value`` is neither a number nor a quotient of two.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(
            f"{value!r} is not a number; write it as 0.3 or as a fraction such as 8/255"
        )
    if isinstance(value, int | float):
        return float(value)
    try:
        numerator, _, denominator = value.partition("/")
        number = Fraction(numerator.strip()) / Fraction(denominator.strip() or "1")
    except (ValueError, ZeroDivisionError):
        raise UserError(
            f"{value!r} is not a number; write it as 0.3 or as a fraction such as 8/255"
        ) from None
    return float(number)


#: Significant digits by which two numbers of the options are told apart; a float has 15 to 17.
DIGITS = 12


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
