"""Numbers as papers write them."""

from fractions import Fraction

from advprune.errors import UserError


def fraction(value: str | float) -> float:
    """Read ``8/255``, ``"0.3"`` or ``0.3`` as a float.

    Raises:
        UserError: if ``value`` is neither a number nor a quotient of two.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{value!r} is not a number; write it as 0.3 or as a fraction such as 8/255")
    if isinstance(value, int | float):
        return float(value)
    try:
        numerator, _, denominator = value.partition("/")
        number = Fraction(numerator.strip()) / Fraction(denominator.strip() or "1")
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{value!r} is not a number; write it as 0.3 or as a fraction such as 8/255") from None
    return float(number)
