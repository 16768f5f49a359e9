"""Write large counts, of parameters and of multiplications, in three digits."""


def count(number: float | None) -> str:
    """Return a count in three digits: ``1.23 M``, ``45.6 k``; a dash if it was not counted."""
    if number is None:
        return "–"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"
