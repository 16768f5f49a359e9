"""Write a matplotlib figure as a PNG file."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advprune.errors import UserError
from advprune.runtime.safe_files import write_atomically

if TYPE_CHECKING:  # matplotlib is an extra
    from matplotlib.figure import Figure


def subplots(width: float, height: float) -> tuple["Figure", Any]:
    """Return a figure of this size, in inches, and its one panel.

    Raises:
        UserError: if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise UserError(
            'plots need a package that is not installed: pip install "advprune[plots]"'
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: Path) -> None:
    """Write the figure and close it."""
    from matplotlib import pyplot

    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150)
    write_atomically(path, drawn.getvalue())
    pyplot.close(figure)
