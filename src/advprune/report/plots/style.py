"""One look for all plots: matplotlib draws with stand-in colours, which become real ones in a file and CSS variables in
the page, so that one drawing serves light and dark.
"""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Stand-in -> (CSS variable, colour on paper). No plot uses the stand-ins for themselves.
INK, MUTED, GRID, SURFACE = "#010203", "#040506", "#070809", "#0a0b0c"
#: Eight hues that colour-blind readers can tell apart (after Okabe and Ito); page.css has their
#: partners for the dark.
HUES = ("#0072b2", "#c8500a", "#008060", "#a8458f", "#8a6d00", "#5b5bd6", "#b3273c", "#4d6670")
MARKERS = "osD^vPX*"
STAND_INS = {
    INK: ("ink", "#1a1d21"),
    MUTED: ("muted", "#5a626b"),
    GRID: ("grid", "#dfe3e8"),
    SURFACE: ("surface", "#ffffff"),
    **{f"#0d0e{i:02x}": (f"series-{i}", hue) for i, hue in enumerate(HUES)},
}
LINES = ("-", "--", ":")
#: Inches that a figure has for its legend from the start.
LEGEND = 2.2


@dataclass(frozen=True)
class Plot:
    """A drawing: ``name`` of its file, ``kind`` that its module draws, and matplotlib's SVG with stand-in colours."""

    name: str
    kind: str
    title: str
    caption: str
    drawn: str

    def file(self) -> str:
        """The SVG on white paper."""
        return _replaced(
            self.drawn, {stand_in: colour for stand_in, (_, colour) in STAND_INS.items()}
        )

    def inline(self) -> str:
        """The ``<svg>`` element for the page: colours from its style sheet, ids that no other drawing has."""
        svg = self.drawn[self.drawn.index("<svg") :]
        svg = re.sub(r'\bid="', f'id="{self.name}-', svg)
        svg = re.sub(r'href="#', f'href="#{self.name}-', svg)
        svg = re.sub(r"url\(#", f"url(#{self.name}-", svg)
        svg = _replaced(
            svg, {stand_in: f"var(--{name})" for stand_in, (name, _) in STAND_INS.items()}
        )
        return svg.replace(
            "<svg",
            '<svg role="img" aria-label="' + _attribute(f"{self.title}. {self.caption}") + '"',
            1,
        )


def _replaced(svg: str, colours: dict[str, str]) -> str:
    return re.sub("|".join(colours), lambda match: colours[match.group()], svg)


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


class Looks:
    """A colour, a marker and a line for each name, in the order they are first asked for; the same in all plots."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._order: dict[str, int] = {}
        for name in names:
            self.of(name)

    def of(self, name: str) -> dict[str, Any]:
        """What matplotlib is to draw this name with."""
        index = self._order.setdefault(name, len(self._order))
        hue, turn = index % len(HUES), index // len(HUES)
        return {
            "color": f"#0d0e{hue:02x}",
            "marker": MARKERS[(hue + turn) % len(MARKERS)],
            "linestyle": LINES[turn % 3],
        }


@contextmanager
def drawing(
    width: float = 6.4, height: float = 3.6, panels: int = 1
) -> Iterator[tuple["Figure", list["Axes"]]]:
    """A figure with panels side by side; sizes in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "advprune",
        "font.size": 10,
        "font.family": "sans-serif",
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "axes.titlecolor": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "grid.color": GRID,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "figure.facecolor": SURFACE,
        "axes.facecolor": SURFACE,
        "legend.frameon": False,
        "legend.fontsize": 9,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, list(figure.subplots(1, panels, squeeze=False)[0])


def finish(figure: "Figure", name: str, kind: str, title: str, caption: str) -> Plot:
    """The figure as a plot; without a date in it, so that the same numbers give the same bytes."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return Plot(slug(f"{kind} {name}"), kind, title, caption, out.getvalue())


def slug(name: str) -> str:
    """A name for files and for ids."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:120]


def legend(figure: "Figure", axes: list["Axes"]) -> None:
    """One legend for all panels, outside of them, each name once; the figure grows by what is not ``LEGEND`` wide."""
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if handles:
        made = figure.legend(list(handles.values()), list(handles), loc="outside right upper")
        box = made.get_window_extent()
        figure.set_figwidth(figure.get_figwidth() + max(box.width / figure.dpi - LEGEND, 0))
        figure.set_figheight(max(figure.get_figheight(), box.height / figure.dpi + 0.3))


def heat(
    axis: "Axes", values: list[list[float | None]], rows: list[str], columns: list[str]
) -> None:
    """A matrix of shares in [0, 1] as coloured cells with their numbers in percent; None stays empty.

    The colours are those of paper in the dark, too: a scale is read off its ends.
    """
    import numpy as np
    from matplotlib import colormaps

    grid = np.array(
        [[np.nan if value is None else value for value in line] for line in values], dtype=float
    )
    axis.pcolormesh(grid, cmap="Blues", vmin=0, vmax=1, edgecolors=SURFACE, linewidth=1.5)
    scale = colormaps["Blues"]
    for y, x in np.argwhere(~np.isnan(grid)):
        dark = sum(scale(grid[y, x])[:3]) < 1.6
        axis.text(
            x + 0.5,
            y + 0.5,
            f"{100 * grid[y, x]:.0f}",
            ha="center",
            va="center",
            color="#ffffff" if dark else "#10243a",
            fontsize=9,
        )
    axis.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=30, ha="right")
    axis.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axis.invert_yaxis()
    axis.grid(visible=False)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
