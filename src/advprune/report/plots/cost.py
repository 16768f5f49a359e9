"""Plot what a network costs against its accuracy: MACs, and milliseconds if sizes=true."""

from collections.abc import Iterator

from advprune.report.data.attack_names import attack_text
from advprune.report.data.leaderboard_rows import main_metric, method
from advprune.report.data.row import Row
from advprune.report.plots.data import (
    PlotData,
    bars_note,
    error_bar,
    group_rows,
    says_something,
    setting_text,
    value_text,
)
from advprune.report.plots.figure import LEGEND, drawing, finish, hover, legend
from advprune.report.plots.sparsity import SHARES
from advprune.report.plots.style import MUTED, Plot

KIND = "MACs and latency against accuracy"
NEEDS = "three networks whose MACs are counted, at two ratios or more"
AXES = {
    "macs": (1e-6, "million MACs by non-zero weights"),
    "seconds_1": (1e3, "ms, one image"),
    "seconds_128": (1e3, "ms, a batch of 128"),
}


def draw(data: PlotData) -> Iterator[Plot]:
    """Yield a plot for each data set, model, objective and attack: a panel for each known cost."""
    names = ("dataset", "model", "objective", "attack", "norm", "eps")
    groups = group_rows(
        (row for row in data.rows if not row["source"]),
        lambda row: tuple(row[name] for name in names),
    )
    return (plot for group in groups if (plot := _plot(group, data)))


def _plot(rows: list[Row], data: PlotData) -> Plot | None:
    panels = [name for name in AXES if says_something(row for row in rows if name in row["costs"])]
    if not panels:
        return None
    share = main_metric(rows[0])
    with drawing(LEGEND + 3 * len(panels), 3.4, panels=len(panels)) as (figure, axes):
        for axis, cost in zip(axes, panels, strict=True):
            scale, label = AXES[cost]
            known = [row for row in rows if cost in row["costs"]]
            for line in sorted(group_rows(known, method), key=lambda line: method(line[0])):
                look = (
                    data.looks.of(method(line[0]))
                    if line[0]["pruner"]
                    else {"color": MUTED, "marker": "*"}
                )
                line = sorted(line, key=lambda row: row["costs"][cost])
                errors = list(zip(*(error_bar(row, share) for row in line), strict=True))
                drawn = axis.errorbar(
                    [row["costs"][cost] * scale for row in line],
                    [100 * row[share] for row in line],
                    errors,
                    label=method(line[0]),
                    capsize=3,
                    markersize=5,
                    linewidth=1,
                    **look,
                )
                hover(drawn.lines[0], [value_text(row, share) for row in line])
            axis.set(xlabel=label, ylabel=SHARES[share] if axis is axes[0] else "", ylim=(0, 100))
            axis.set_xlim(left=0)
        legend(figure, axes)
        title = f"{setting_text(rows[0])}: {attack_text(rows[0])}"
        note = "Zeros alone make no network faster; latency is of the machine that measured it."
        return finish(figure, title, KIND, title, f"{bars_note(rows)} {note}")
