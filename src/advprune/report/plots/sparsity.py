"""Accuracy against sparsity: a line a pruner with its intervals, a picture an attack; the dense parent at 0."""

from collections.abc import Iterator

from advprune.report.data.leaderboard_rows import method, verdict
from advprune.report.plots.data import Material, Row, attacked, bars, grouped, setting, spread
from advprune.report.plots.style import MUTED, Plot, drawing, finish, legend

KIND = "Accuracy against sparsity"
NEEDS = "a pruned network, evaluated"
#: Published rows stand beside ours if their budget differs by no more: 0.031 is meant to be 8/255.
SAME_EPS = 1e-3
SHARES = {
    "clean_acc": "clean accuracy, %",
    "robust_acc": "robust accuracy, %",
    "certified_acc": "certified accuracy, %",
}


def draw(given: Material) -> Iterator[Plot]:
    """A plot for each data set, network, objective and attack, clean on the left, robust or certified on the right."""
    names = ("dataset", "model", "objective", "attack", "norm", "eps", "source", "images")
    groups = grouped(given.rows, lambda row: tuple(row[name] for name in names))
    return (_plot(rows, given) for rows in groups if any(row["pruner"] for row in rows))


def _plot(rows: list[Row], given: Material) -> Plot:
    share = verdict(rows[0])
    units = {
        row["unit"] for row in rows if row["pruner"]
    }  # filters removed and weights removed are two sparsities
    papers = [
        row for row in given.published if row["unit"] in units and _comparable(row, rows[0], share)
    ]
    with drawing(9.2, 3.6, panels=2) as (figure, axes):
        for axis, name in zip(axes, ("clean_acc", share), strict=True):
            _panel(axis, rows, papers, name, given)
        legend(figure, axes)
        title = f"{setting(rows[0])}: {attacked(rows[0])}"
        said = f"{bars(rows)} Sparsity was counted; the scale is logarithmic in what is left."
        if papers:
            said += " Hollow: published, under a protocol of its own."
        return finish(figure, title, KIND, title, said)


def _comparable(paper: Row, row: Row, share: str) -> bool:
    same = [paper[name] == row[name].split(" ")[0] for name in ("dataset", "model", "attack")]
    near = (
        paper["eps"] is not None
        and row["eps"] is not None
        and abs(paper["eps"] - row["eps"]) < SAME_EPS
    )
    return all(same) and near and paper["norm"] == row["norm"] and paper.get(share) is not None


def _panel(axis, rows: list[Row], papers: list[Row], name: str, given: Material) -> None:  # type: ignore[no-untyped-def]
    """One share against what is left."""
    for line in sorted(
        grouped((row for row in rows if row["pruner"]), method), key=lambda line: method(line[0])
    ):
        line = sorted(line, key=lambda row: row["sparsity"])
        errors = list(zip(*(spread(row, name) for row in line), strict=True))
        axis.errorbar(
            [1 - row["sparsity"] for row in line],
            [100 * row[name] for row in line],
            errors,
            label=method(line[0]),
            capsize=3,
            markersize=5,
            **given.looks.of(method(line[0])),
        )
    for row in rows:
        if not row["pruner"]:
            below, above = spread(row, name)
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
    told = [row for row in papers if row.get(name) is not None]
    for line in grouped(told, lambda row: (method(row), row["unit"])):
        line = sorted(line, key=lambda row: row["sparsity"])
        look = given.looks.of(method(line[0]).lower()) | {"linestyle": ":"}
        label = f"{method(line[0])} ({line[0]['unit']}), published"
        axis.plot(
            [1 - row["sparsity"] for row in line],
            [100 * row[name] for row in line],
            label=label,
            markerfacecolor="none",
            markersize=6,
            **look,
        )
    shown = {row["sparsity"] for row in [*rows, *papers] if row["pruner"]}
    _sparsity_axis(axis, shown)
    moved = rows[0]["source"] and name == "robust_acc"
    lowest = (
        axis.dataLim.y0
    )  # networks that are all good are told apart only on an axis of their own
    axis.set(
        ylabel="right on the source's examples, %" if moved else SHARES[name],
        ylim=(0 if lowest < 50 else 10 * ((lowest - 2) // 10), 100),
    )


def _sparsity_axis(axis, sparsities: set[float]) -> None:  # type: ignore[no-untyped-def]
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
