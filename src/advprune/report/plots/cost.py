"""What a network costs against what it withstands: MACs, and milliseconds where a job measured them (sizes=true)."""

from collections.abc import Iterator

from advprune.report.data.leaderboard_rows import method, verdict
from advprune.report.plots.data import Material, Row, attacked, bars, grouped, setting, spread
from advprune.report.plots.sparsity import SHARES
from advprune.report.plots.style import LEGEND, MUTED, Plot, drawing, finish, legend

KIND = "MACs and latency against accuracy"
NEEDS = "filters or blocks removed, or sizes=true"
AXES = {
    "macs": (1e-6, "million MACs by non-zero weights"),
    "seconds_1": (1e3, "ms, one image"),
    "seconds_128": (1e3, "ms, a batch of 128"),
}


def draw(given: Material) -> Iterator[Plot]:
    """A plot for each data set, model, objective and attack, a panel for each cost that is known of two networks."""
    names = ("dataset", "model", "objective", "attack", "norm", "eps")
    groups = grouped(
        (row for row in given.rows if not row["source"]),
        lambda row: tuple(row[name] for name in names),
    )
    return (plot for group in groups if (plot := _plot(group, given)))


def _plot(rows: list[Row], given: Material) -> Plot | None:
    panels = [name for name in AXES if len([row for row in rows if name in row["costs"]]) > 1]
    if not panels:
        return None
    share = verdict(rows[0])
    with drawing(LEGEND + 3 * len(panels), 3.4, panels=len(panels)) as (figure, axes):
        for axis, cost in zip(axes, panels, strict=True):
            scale, label = AXES[cost]
            known = [row for row in rows if cost in row["costs"]]
            for line in sorted(grouped(known, method), key=lambda line: method(line[0])):
                look = (
                    given.looks.of(method(line[0]))
                    if line[0]["pruner"]
                    else {"color": MUTED, "marker": "*"}
                )
                line = sorted(line, key=lambda row: row["costs"][cost])
                errors = list(zip(*(spread(row, share) for row in line), strict=True))
                axis.errorbar(
                    [row["costs"][cost] * scale for row in line],
                    [100 * row[share] for row in line],
                    errors,
                    label=method(line[0]),
                    capsize=3,
                    markersize=5,
                    linewidth=1,
                    **look,
                )
            axis.set(xlabel=label, ylabel=SHARES[share] if axis is axes[0] else "", ylim=(0, 100))
            axis.set_xlim(left=0)
        legend(figure, axes)
        title = f"{setting(rows[0])}: {attacked(rows[0])}"
        said = "Zeros alone make no network faster; latency is of the machine that measured it."
        return finish(figure, title, KIND, title, f"{bars(rows)} {said}")
