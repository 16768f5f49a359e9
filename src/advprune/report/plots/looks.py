"""Give each method one colour, marker and line in all plots of a report."""

from collections.abc import Iterable
from typing import Any

from advprune.report.plots.style import HUES

MARKERS = "osD^vPX*"
LINES = ("-", "--", ":")


class Looks:
    """Give each name one colour, marker and line in all plots, in the order of first use."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._order: dict[str, int] = {}
        for name in names:
            self.of(name)

    def of(self, name: str) -> dict[str, Any]:
        """Return what matplotlib is to draw this name with."""
        index = self._order.setdefault(name, len(self._order))
        hue, turn = index % len(HUES), index // len(HUES)
        return {
            "color": f"#0d0e{hue:02x}",
            "marker": MARKERS[(hue + turn) % len(MARKERS)],
            "linestyle": LINES[turn % 3],
        }
