"""Clean, robust and certified accuracy against one another: a point a network, and those that none beats in both."""

from collections.abc import Iterator
from itertools import combinations

from advprune.report.entries import method
from advprune.report.plots.material import Material, Row, attacked, grouped, setting
from advprune.report.plots.sparsity import SHARES
from advprune.report.plots.style import MUTED, Plot, drawing, finish, legend

KIND = "Pareto fronts"
NEEDS = "two networks under one threat"
Point = tuple[float, float]


def draw(given: Material) -> Iterator[Plot]:
    """A plot for each data set, model and threat: a panel for each two shares that networks have."""
    rows = [row for row in given.rows if not row["source"] and row["eps"] is not None]
    groups = grouped(rows, lambda row: (row["dataset"], row["model"], row["norm"], row["eps"]))
    return (plot for group in groups if (plot := _plot(group, given)))


def front(points: list[Point]) -> list[Point]:
    """The points that no other one beats in one share and equals in the other, from left to right."""
    kept: list[Point] = []
    for x, y in sorted(set(points), reverse=True):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept[::-1]


def networks(rows: list[Row]) -> list[Row]:
    """One row a network: its robust accuracy is the least of its attacks, its certified the most of its proofs."""
    found = []
    for group in grouped(rows, lambda row: row["network"]):
        row = group[0] | {"robust_acc": None, "certified_acc": None}
        for name, pick in (("robust_acc", min), ("certified_acc", max)):
            shares = [one[name] for one in group if one.get(name) is not None]
            row[name] = pick(shares) if shares else None
        found.append(row)
    return found


def _plot(rows: list[Row], given: Material) -> Plot | None:
    points = networks(rows)
    panels = [
        (x, y) for x, y in combinations(SHARES, 2)
        if sum(point[x] is not None and point[y] is not None for point in points) > 1
    ]  # fmt: skip
    if not panels:
        return None
    with drawing(2.2 + 3.6 * len(panels), 3.6, panels=len(panels)) as (figure, axes):
        for axis, (x, y) in zip(axes, panels, strict=True):
            _panel(axis, [point for point in points if point[x] is not None and point[y] is not None], x, y, given)
        legend(figure, axes)
        attacks = sorted({attacked(row) for row in rows})
        title = f"{setting(rows[0] | {'objective': None})}: {', '.join(attacks)}"
        return finish(
            figure, title, KIND, title,
            "The line joins the networks that no other one beats in both shares; numbers are ratios. A network "
            "attacked in several ways stands at its least robust accuracy. Means over seeds, without intervals.",
        )  # fmt: skip


def _panel(axis, points: list[Row], x: str, y: str, given: Material) -> None:  # type: ignore[no-untyped-def]
    edge = front([(100 * point[x], 100 * point[y]) for point in points])
    axis.plot(*zip(*edge, strict=True), color=MUTED, linewidth=1.2, label="front", zorder=1)
    for line in sorted(grouped(points, method), key=lambda line: method(line[0])):
        look = given.looks.of(method(line[0])) if line[0]["pruner"] else {"color": MUTED, "marker": "*"}
        at = [(100 * point[x], 100 * point[y]) for point in line]
        axis.plot(*zip(*at, strict=True), label=method(line[0]), markersize=6, **look | {"linestyle": "none"})
        for point, place in zip(line, at, strict=True):
            if point["ratio"] is not None and place in edge:
                axis.annotate(f"{point['ratio']:g}", place, (4, 4), textcoords="offset points", fontsize=8)
    axis.set(xlabel=SHARES[x], ylabel=SHARES[y])
    axis.grid(visible=True, axis="both")
    axis.margins(0.12)
