"""Clean, robust and certified accuracy against one another: a point a network, and those that none beats in both."""

from collections.abc import Iterator
from itertools import combinations

from advprune.report.data.leaderboard_rows import method
from advprune.report.plots.data import Material, Row, attacked, grouped, setting
from advprune.report.plots.sparsity import SHARES
from advprune.report.plots.style import LEGEND, MUTED, Plot, drawing, finish, legend

KIND = "Pareto fronts"
NEEDS = "two networks under one threat"
Point = tuple[float, float]


def draw(given: Material) -> Iterator[Plot]:
    """A plot for each data set, model, threat and attack: a panel for each two shares that its networks have.

    Robust accuracy is of one attack, for of two attacks it is two quantities; a network's proofs
    stand beside it.
    """
    rows = [row for row in given.rows if not row["source"] and row["eps"] is not None]
    for group in grouped(rows, lambda row: (row["dataset"], row["model"], row["norm"], row["eps"])):
        proved = {
            row["network"]: row["certified_acc"]
            for row in group
            if row.get("certified_acc") is not None
        }
        attacks = [row for row in group if row.get("robust_acc") is not None]
        for networks in grouped(attacks or group, lambda row: row["judged"]):
            points = [row | {"certified_acc": proved.get(row["network"])} for row in networks]
            plot = _plot(points, given)
            if plot:
                yield plot


def front(points: list[Point]) -> list[Point]:
    """The points that no other one beats in one share and equals in the other, from left to right."""
    kept: list[Point] = []
    for x, y in sorted(set(points), reverse=True):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept[::-1]


def _plot(points: list[Row], given: Material) -> Plot | None:
    panels = [
        (x, y)
        for x, y in combinations(SHARES, 2)
        if sum(point[x] is not None and point[y] is not None for point in points) > 1
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
                given,
            )
        legend(figure, axes)
        title = f"{setting(points[0] | {'objective': None})}: {attacked(points[0])}"
        said = "The line joins the networks that no other one beats in both shares; numbers are ratios. Means over seeds."
        return finish(figure, title, KIND, title, said)


def _panel(axis, points: list[Row], x: str, y: str, given: Material) -> None:  # type: ignore[no-untyped-def]
    edge = front([(100 * point[x], 100 * point[y]) for point in points])
    axis.plot(*zip(*edge, strict=True), color=MUTED, linewidth=1.2, label="front", zorder=1)
    for line in sorted(grouped(points, method), key=lambda line: method(line[0])):
        look = (
            given.looks.of(method(line[0]))
            if line[0]["pruner"]
            else {"color": MUTED, "marker": "*"}
        )
        at = [(100 * point[x], 100 * point[y]) for point in line]
        axis.plot(
            *zip(*at, strict=True),
            label=method(line[0]),
            markersize=6,
            **look | {"linestyle": "none"},
        )
        for point, place in zip(line, at, strict=True):
            if point["ratio"] is not None and place in edge:
                axis.annotate(
                    f"{point['ratio']:g}", place, (4, 4), textcoords="offset points", fontsize=8
                )
    axis.set(xlabel=SHARES[x], ylabel=SHARES[y])
    axis.grid(visible=True, axis="both")
    axis.margins(0.12)
