"""Plot clean, robust and certified accuracy against one another, with the Pareto front."""

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

from advprune.report.data.attack_names import attack_text
from advprune.report.data.leaderboard_rows import method, method_at_ratio
from advprune.report.data.row import Row
from advprune.report.plots.data import (
    PlotData,
    group_rows,
    says_something,
    setting_text,
)
from advprune.report.plots.figure import LEGEND, drawing, finish, hover, legend
from advprune.report.plots.sparsity import SHARES
from advprune.report.plots.style import MUTED, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KIND = "Pareto fronts"
NEEDS = "three networks under one threat, at two ratios or more"
Point = tuple[float, float]


def draw(data: PlotData) -> Iterator[Plot]:
    """Yield a plot for each data set, model, threat and attack.

    It has a panel for each two accuracies that the networks have. Robust accuracy is of one attack
    only, since another attack's is another quantity; a network's certified accuracy goes with each.
    """
    rows = [row for row in data.rows if not row["source"] and row["eps"] is not None]
    for group in group_rows(
        rows, lambda row: (row["dataset"], row["model"], row["norm"], row["eps"])
    ):
        proved = {
            row["network"]: row["certified_acc"]
            for row in group
            if row.get("certified_acc") is not None
        }
        attacks = [row for row in group if row.get("robust_acc") is not None]
        for networks in group_rows(attacks or group, lambda row: row["evaluation"]):
            points = [row | {"certified_acc": proved.get(row["network"])} for row in networks]
            plot = _plot(points, data)
            if plot:
                yield plot


def front(points: list[Point]) -> list[Point]:
    """Return the points that no other one dominates, from left to right."""
    kept: list[Point] = []
    for x, y in sorted(set(points), reverse=True):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept[::-1]


def _plot(points: list[Row], data: PlotData) -> Plot | None:
    panels = [
        (x, y)
        for x, y in combinations(SHARES, 2)
        if says_something(p for p in points if p[x] is not None and p[y] is not None)
    ]
    if not panels:
        return None
    with drawing(LEGEND + 3.6 * len(panels), 3.6, panels=len(panels)) as (figure, axes):
        for axis, (x, y) in zip(axes, panels, strict=True):
            _panel(
                axis,
                [point for point in points if point[x] is not None and point[y] is not None],
                x,
                y,
                data,
            )
        legend(figure, axes)
        title = f"{setting_text(points[0] | {'objective': None})}: {attack_text(points[0])}"
        note = (
            "The line joins the networks that no other one beats in both accuracies; "
            "numbers are ratios. Means over seeds."
        )
        return finish(figure, title, KIND, title, note)


def _panel(axis: "Axes", points: list[Row], x: str, y: str, data: PlotData) -> None:
    edge = front([(100 * point[x], 100 * point[y]) for point in points])
    axis.plot(*zip(*edge, strict=True), color=MUTED, linewidth=1.2, label="front", zorder=1)
    for line in sorted(group_rows(points, method), key=lambda line: method(line[0])):
        look = (
            data.looks.of(method(line[0])) if line[0]["pruner"] else {"color": MUTED, "marker": "*"}
        )
        at = [(100 * point[x], 100 * point[y]) for point in line]
        (drawn,) = axis.plot(
            *zip(*at, strict=True),
            label=method(line[0]),
            markersize=6,
            clip_on=False,
            **look | {"linestyle": "none"},
        )
        hover(drawn, [_text(point, x, y) for point in line])
        for point, place in zip(line, at, strict=True):
            if point["ratio"] is not None and place in edge:
                axis.annotate(
                    f"{point['ratio']:g}", place, (4, 4), textcoords="offset points", fontsize=8
                )
    axis.set(xlabel=SHARES[x], ylabel=SHARES[y])
    axis.grid(visible=True, axis="both")
    axis.margins(0.12)
    axis.set_xlim(*_shares_only(axis.get_xlim()))
    axis.set_ylim(*_shares_only(axis.get_ylim()))


def _shares_only(limits: tuple[float, float]) -> tuple[float, float]:
    """Return the limits of an axis without what no share can be."""
    return max(limits[0], 0), min(limits[1], 100)


def _text(point: Row, x: str, y: str) -> str:
    shares = ", ".join(f"{SHARES[name].split(' ')[0]} {100 * point[name]:.1f} %" for name in (x, y))
    return f"{method_at_ratio(point)}: {shares}"
