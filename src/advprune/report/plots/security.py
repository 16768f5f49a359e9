"""Plot the security curve: robust accuracy against eps, of a network or a method."""

import json
from collections.abc import Iterator

from advprune.report.data.attack_names import threat_text
from advprune.report.data.leaderboard_rows import main_metric, method_at_ratio
from advprune.report.data.row import Row
from advprune.report.plots.data import (
    PlotData,
    bars_note,
    error_bar,
    group_rows,
    setting_text,
    value_text,
)
from advprune.report.plots.figure import dodge, drawing, finish, hover, legend
from advprune.report.plots.sparsity import SHARES
from advprune.report.plots.style import Plot

KIND = "Robust accuracy against eps"
NEEDS = "one attack at two budgets or more (threat.eps=…), on one network or on one method"


def draw(data: PlotData) -> Iterator[Plot]:
    """Yield a plot for each data set, model, norm and attack that was run at several eps."""
    rows = [row for row in data.rows if row["eps"] is not None and not row["source"]]
    groups = group_rows(
        rows,
        lambda row: (
            row["dataset"],
            row["model"],
            row["norm"],
            row["attack"].split(" ")[0],
            main_metric(row),
            _without_eps(row["evaluation"]),
        ),
    )
    return (plot for group in groups if (plot := _plot(group, data)))


def _lines(rows: list[Row]) -> list[tuple[str, bool, list[Row]]]:
    """Return the curves: name, whether it is of one network, and its rows.

    The rows of one network's curve are not drawn again in a method's.
    """
    curves, in_network_curve = [], set()
    for group in group_rows(rows, lambda row: row["network"]):
        if len({row["eps"] for row in group}) > 1:
            curves.append((_name(group[0]), True, group))
            in_network_curve.add(group[0]["network"])
    rest = [row for row in rows if row["network"] not in in_network_curve]
    for group in group_rows(rest, lambda row: _without_eps(row["network"])):
        if len({row["eps"] for row in group}) > 1:
            curves.append((f"{_name(group[0])}, trained at each", False, group))
    return curves


def _name(row: Row) -> str:
    return f"{row['objective']}: {method_at_ratio(row)}"


def _without_eps(identity: str) -> str:
    """Return an identity with every eps removed."""
    return json.dumps(_dropped(json.loads(identity)))


def _dropped(value: object) -> object:
    if isinstance(value, dict):
        return {name: _dropped(inner) for name, inner in value.items() if name != "eps"}
    return [_dropped(inner) for inner in value] if isinstance(value, list) else value


def _plot(rows: list[Row], data: PlotData) -> Plot | None:
    lines = _lines(rows)
    if not lines:
        return None
    share, norm, attack = main_metric(rows[0]), rows[0]["norm"], rows[0]["attack"].split(" ")[0]
    with drawing(7.6, 3.6) as (figure, axes):
        reach = max(row["eps"] for *_, line in lines for row in line)
        for number, (name, one, line) in enumerate(lines):
            line = sorted(line, key=lambda row: row["eps"])
            x, y = [row["eps"] for row in line], [100 * row[share] for row in line]
            errors = [error_bar(row, share) for row in line]
            texts = [f"{value_text(row, share)} within {threat_text(row)}" for row in line]
            if one:  # without a perturbation, robust is clean
                x, y, errors = (
                    [0.0, *x],
                    [100 * line[0]["clean_acc"], *y],
                    [error_bar(line[0], "clean_acc"), *errors],
                )
                texts = [f"{value_text(line[0], 'clean_acc')} clean", *texts]
            beside = reach * dodge(number, len(lines))
            drawn = axes[0].errorbar(
                [max(eps + beside, 0) for eps in x],
                y,
                list(zip(*errors, strict=True)),
                label=name,
                capsize=3,
                markersize=5,
                **data.looks.of(name),
            )
            hover(drawn.lines[0], texts)
        axes[0].set_xlim(left=0)
        axes[0].set(
            xlabel=f"eps ({norm}, of pixels in [0, 1])", ylabel=SHARES[share], ylim=(0, 100)
        )
        legend(figure, axes)
        title = f"{setting_text(rows[0] | {'objective': None})}: {attack}, {norm}"
        shown = [row for *_, line in lines for row in line]
        return finish(
            figure,
            title,
            KIND,
            title,
            f"{bars_note(shown)} One network starts at its clean accuracy.",
        )
