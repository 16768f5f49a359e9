"""Plot transfer matrices: whose adversarial examples fool whom."""

from collections.abc import Iterator
from statistics import mean

from advprune.report.data.leaderboard_rows import method_at_ratio
from advprune.report.data.row import Row
from advprune.report.plots.data import PlotData, group_rows, setting_text
from advprune.report.plots.figure import drawing, finish, heat
from advprune.report.plots.style import Plot

KIND = "Transfer"
NEEDS = "attack=transfer"
QUANTITIES = (
    ("target_acc", "target right, %"),
    ("transfer_rate", "transfer rate, %"),
)


def draw(data: PlotData) -> Iterator[Plot]:
    """Yield a plot for each data set and attack: the target's accuracy, and the transfer rate."""
    rows = [row for row in data.rows if row.get("target_acc") is not None]
    groups = group_rows(
        rows,
        lambda row: tuple(row[name] for name in ("dataset", "objective", "attack", "norm", "eps")),
    )
    return (_plot(group) for group in groups)


def _target(row: Row) -> str:
    return f"{row['model']} {method_at_ratio(row)}"


def _plot(rows: list[Row]) -> Plot:
    targets = list(dict.fromkeys(map(_target, rows)))
    sources = list(dict.fromkeys(row["source"] for row in rows))
    with drawing(5.4 + 1.4 * len(sources), 1.8 + 0.42 * len(targets), panels=2) as (figure, axes):
        for axis, (name, title) in zip(axes, QUANTITIES, strict=True):
            heat(
                axis,
                [[_share(rows, target, source, name) for source in sources] for target in targets],
                targets if axis is axes[0] else [""] * len(targets),
                sources,
            )
            axis.set(title=title, xlabel="examples of")
        axes[0].set_ylabel("evaluated")
        title = f"{setting_text(rows[0] | {'model': None})}, eps {rows[0]['eps']:g}"
        return finish(
            figure,
            title,
            KIND,
            title,
            "Target right: on the source's examples. Transfer rate: the target is wrong, "
            "of the images that both have right and on which the source is fooled. "
            "Means over seeds.",
        )


def _share(rows: list[Row], target: str, source: str, name: str) -> float | None:
    shares = [
        row[name]
        for row in rows
        if (_target(row), row["source"]) == (target, source) and row[name] is not None
    ]
    return mean(shares) if shares else None
