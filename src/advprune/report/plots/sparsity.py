"""Plot accuracy against sparsity: a line a pruner, a plot an attack, the dense parent at 0."""

from collections.abc import Iterator
from operator import itemgetter
from typing import TYPE_CHECKING

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
from advprune.report.plots.figure import dodge, drawing, finish, hover, legend
from advprune.report.plots.style import MUTED, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KIND = "Accuracy against sparsity"
NEEDS = "three pruned networks, at two ratios or more"
#: Published rows are drawn beside ours if eps differs by no more: 0.031 is meant to be 8/255.
SAME_EPS = 1e-3
SHARES = {
    "clean_acc": "clean accuracy, %",
    "robust_acc": "robust accuracy, %",
    "certified_acc": "certified accuracy, %",
}


def draw(data: PlotData) -> Iterator[Plot]:
    """Yield a plot for each data set, network, objective, attack and kind of what is removed.

    Clean accuracy is on the left, robust or certified accuracy on the right.
    """
    names = ("dataset", "model", "objective", "attack", "norm", "eps", "source", "images")
    groups = group_rows(data.rows, lambda row: tuple(row[name] for name in names))
    for group in groups:
        # filters removed and weights removed are two sparsities
        for pruned in group_rows((row for row in group if row["pruner"]), itemgetter("unit")):
            if says_something(pruned):
                yield _plot([row for row in group if not row["pruner"]] + pruned, data)


def _plot(rows: list[Row], data: PlotData) -> Plot:
    share = main_metric(rows[0])
    units = {row["unit"] for row in rows if row["pruner"]}
    papers = [
        row for row in data.published if row["unit"] in units and _comparable(row, rows[0], share)
    ]
    with drawing(9.2, 3.6, panels=2) as (figure, axes):
        for axis, name in zip(axes, ("clean_acc", share), strict=True):
            _panel(axis, rows, papers, name, data)
        legend(figure, axes)
        title = f"{setting_text(rows[0])}, {rows[-1]['unit']}: {attack_text(rows[0])}"
        note = f"{bars_note(rows)} Sparsity was counted; the scale is logarithmic in what is left."
        if papers:
            note += " Hollow: published, under a protocol of its own."
        return finish(figure, title, KIND, title, note)


def _comparable(paper: Row, row: Row, share: str) -> bool:
    same = [paper[name] == row[name].split(" ")[0] for name in ("dataset", "model", "attack")]
    near = (
        paper["eps"] is not None
        and row["eps"] is not None
        and abs(paper["eps"] - row["eps"]) < SAME_EPS
    )
    return all(same) and near and paper["norm"] == row["norm"] and paper.get(share) is not None


def _panel(axis: "Axes", rows: list[Row], papers: list[Row], name: str, data: PlotData) -> None:
    """Draw one accuracy against what is left; intervals stand beside each other."""
    pruned = [row for row in rows if row["pruner"]]
    lines = sorted(group_rows(pruned, method), key=lambda line: method(line[0]))
    reach = max(1 - row["sparsity"] for row in pruned) / min(1 - row["sparsity"] for row in pruned)
    for number, line in enumerate(lines):
        line = sorted(line, key=lambda row: row["sparsity"])
        errors = list(zip(*(error_bar(row, name) for row in line), strict=True))
        beside = reach ** -dodge(number, len(lines))
        drawn = axis.errorbar(
            [(1 - row["sparsity"]) * beside for row in line],
            [100 * row[name] for row in line],
            errors,
            label=method(line[0]),
            capsize=3,
            markersize=5,
            **data.looks.of(method(line[0])),
        )
        hover(drawn.lines[0], [value_text(row, name) for row in line])
    for row in rows:
        if not row["pruner"]:
            below, above = error_bar(row, name)
            axis.axhline(
                100 * row[name], color=MUTED, linestyle="--", linewidth=1, label="dense parent"
            )
            axis.axhspan(
                100 * row[name] - below,
                100 * row[name] + above,
                color=MUTED,
                alpha=0.12,
                linewidth=0,
            )
    with_share = [row for row in papers if row.get(name) is not None]
    for line in group_rows(with_share, lambda row: (method(row), row["unit"])):
        line = sorted(line, key=lambda row: row["sparsity"])
        look = data.looks.of(method(line[0]).lower()) | {"linestyle": ":"}
        label = f"{method(line[0])} ({line[0]['unit']}), published"
        axis.plot(
            [1 - row["sparsity"] for row in line],
            [100 * row[name] for row in line],
            label=label,
            markerfacecolor="none",
            markersize=6,
            **look,
        )
    sparsities = {row["sparsity"] for row in [*rows, *papers] if row["pruner"]}
    _sparsity_axis(axis, sparsities)
    moved = rows[0]["source"] and name == "robust_acc"
    # networks that are all good can be distinguished only on an axis that does not begin at 0
    lowest = axis.dataLim.y0
    axis.set(
        ylabel="right on the source's examples, %" if moved else SHARES[name],
        ylim=(0 if lowest < 50 else 10 * ((lowest - 2) // 10), 100),
    )


def _sparsity_axis(axis: "Axes", sparsities: set[float]) -> None:
    """Ticks at the sparsities that are there, those that would overlap left out."""
    axis.set_xscale("log")
    shares = sorted({float(f"{1 - s:.2g}") for s in sparsities if s < 1}, reverse=True)
    apart = (1.69 * shares[0] / shares[-1]) ** (1 / 9)  # the axis has room for nine labels
    ticks: list[float] = []
    for left in shares:
        if not ticks or ticks[-1] / left > apart:
            ticks.append(left)
    axis.set_xticks(ticks, [f"{1 - left:.4g}" for left in ticks], minor=False)
    axis.set_xticks([], minor=True)
    axis.set_xlim(shares[0] * 1.3, shares[-1] / 1.3)
    axis.set_xlabel("sparsity")
