"""Rank the pruned rows of the leaderboard, and tell how each compares with the best."""

from typing import Any

from advprune.report.data.leaderboard_rows import main_metric
from advprune.report.data.row import Row
from advprune.report.data.significance import Comparison

#: What two rows must have in common for their accuracies to be compared at all.
COMPARABLE = (
    *("dataset", "model", "foreign", "objective", "attack", "norm", "eps", "source", "images"),
    *("ratio", "unit", "ratio_of", "quantizer"),
)


def rank(rows: list[Row], compared: list[Comparison]) -> None:
    """Write ``place`` and ``versus``, how it compares with the best, into each pruned row.

    Places are those among the comparable rows, from 1; rows of equal accuracy have equal places.

    Args:
        rows: pooled over seeds, from ``entries``.
        compared: from ``significance.comparisons``; no difference is tested here.
    """
    tested: dict[tuple[str, str], Comparison] = {}
    for comparison in compared:
        a, b = (
            next(iter(runs.values())).identity for runs in (comparison["of"], comparison["against"])
        )
        tested[a, b] = tested[b, a] = comparison
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["ratio"] is not None:
            groups.setdefault(tuple(row.get(name) for name in COMPARABLE), []).append(row)
    for group in groups.values():
        if len(group) < 2:
            continue
        shares = sorted((row[main_metric(row)] for row in group), reverse=True)
        best = max(group, key=lambda row: row[main_metric(row)])
        for row in group:
            row["place"] = shares.index(row[main_metric(row)]) + 1
            against_best = tested.get((row["identity"], best["identity"]))
            row["versus"] = "best" if row is best else _versus(row, best, against_best)


def _versus(row: Row, best: Row, comparison: Comparison | None) -> str:
    points = f"{100 * (row[main_metric(row)] - best[main_metric(best)]):+.1f}"
    if comparison is None:
        return f"{points}, not compared"
    return f"{points}, {'significant' if comparison['significant'] else 'not significant'}"
