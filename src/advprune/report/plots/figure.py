"""Set up, finish and label matplotlib figures in the report's style."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from advprune.report.plots.style import GRID, INK, MUTED, SURFACE, Plot, slug

if TYPE_CHECKING:  # matplotlib is an extra: a report without it has tables only
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Inches that a figure has for its legend from the start.
LEGEND = 2.2
#: Begins the id of what shows a value under the pointer; its values follow, separated by the other.
HOVER, BETWEEN = "value of ", " | "
#: Room between two intervals that would cover each other, as a share of the axis.
APART = 0.012


@contextmanager
def drawing(
    width: float = 6.4, height: float = 3.6, panels: int = 1
) -> Iterator[tuple["Figure", list["Axes"]]]:
    """Yield a figure in the report's style and its panels, side by side.

    Args:
        width: inches.
        height: inches.
        panels: how many.
    """
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


def hover(artist: "Artist", values: list[str]) -> None:
    """Give each point of a line, or a bar, the text that a browser shows under the pointer."""
    artist.set_gid(HOVER + BETWEEN.join(value.replace("|", "/") for value in values))


def with_titles(svg: str) -> str:
    """Return matplotlib's SVG with the texts of ``hover`` as ``<title>`` of what they are of.

    Matplotlib draws the points of a line as ``<use>`` elements in their order, a bar as a path.
    """

    def titled(group: re.Match[str]) -> str:
        values = iter(group[1].split(BETWEEN))
        body = re.sub(
            r"<(use|path)\b([^>]*)/>",
            lambda drawn: _with_title(drawn, values, points="<use" in group[2]),
            group[2],
        )
        return f"<g>{body}</g>"

    # a line's markers are in a group of their own, inside the line's
    return re.sub(rf'<g id="{HOVER}([^"]*)">((?:\s*<g\b.*?</g>|.)*?)</g>', titled, svg, flags=re.S)


def with_short_numbers(svg: str) -> str:
    """Return matplotlib's SVG with places to a hundredth of a point, a third of its length less."""

    def shortened(attribute: re.Match[str]) -> str:
        return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", attribute[0])

    return re.sub(r' (?:d|x|y)="[^"]*"', shortened, svg)


def _with_title(drawn: re.Match[str], values: Iterator[str], *, points: bool) -> str:
    """Return an element with the next value as its title; the path of a line has none."""
    if points and drawn[1] == "path":
        return drawn[0]
    value = next(values, None)
    if value is None:
        return drawn[0]
    return f"<{drawn[1]}{drawn[2]}><title>{value}</title></{drawn[1]}>"


def dodge(number: int, lines: int) -> float:
    """Return how far the intervals of one of several lines stand beside their place.

    Returns:
        A share of the axis: 0 in the middle of the lines.
    """
    return (number - (lines - 1) / 2) * min(APART, 0.12 / max(lines, 1))


def finish(figure: "Figure", name: str, kind: str, title: str, caption: str) -> Plot:
    """Return the figure as a plot, without a date in it: the same numbers give the same bytes."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return Plot(
        slug(f"{kind} {name}"),
        kind,
        title,
        caption,
        with_titles(with_short_numbers(out.getvalue())),
    )


def legend(figure: "Figure", axes: list["Axes"]) -> None:
    """Add one legend for all panels beside them, each name once; the figure grows if it must."""
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if handles:
        drawn = figure.legend(list(handles.values()), list(handles), loc="outside right upper")
        box = drawn.get_window_extent()
        figure.set_figwidth(figure.get_figwidth() + max(box.width / figure.dpi - LEGEND, 0))
        figure.set_figheight(max(figure.get_figheight(), box.height / figure.dpi + 0.3))


def heat(
    axis: "Axes", values: list[list[float | None]], rows: list[str], columns: list[str]
) -> None:
    """Draw a matrix of shares in [0, 1] as coloured cells with their percentages; None stays empty.

    The colours are the same in light and dark, since a scale is read off its ends.
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
