"""Pool rows that differ in seed alone: means, with intervals over images and seeds."""

from collections.abc import Callable, Hashable
from statistics import mean
from typing import Any

from advprune.report.data.intervals import over_seeds
from advprune.report.data.row import Row

#: The accuracies that a row has.
SHARES = (
    *("dense_clean_acc", "dense_robust_acc", "dense_certified_acc", "dense_mean_acc"),
    *("clean_acc", "robust_acc", "certified_acc", "mean_acc"),
    *("target_acc", "both_correct", "transfer_rate"),
)
#: The columns in which two rows of a table may differ, other than the seed.
IDENTITY = (
    *("dataset", "model", "objective", "threat", "pruner", "ratio", "foreign", "quantizer"),
    *("attack", "eps", "norm", "perturbation", "images", "source"),
)


def identity(row: Row) -> tuple[Any, ...]:
    """Return what a row has in common with those of other seeds."""
    return tuple(str(row.get(name)) for name in IDENTITY)


def pool(rows: list[Row], same: Callable[[Row], Hashable] = identity) -> list[Row]:
    """Return one row for each group of seeds, in the order in which they come.

    Args:
        rows: one row a job.
        same: row -> its group.

    Returns:
        The pooled rows, with ``seeds``; of a single seed, the row itself with its intervals.
    """
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        groups.setdefault(same(row), []).append(row)
    return [
        _pooled(list({row["seed"]: row for row in group}.values())) for group in groups.values()
    ]


def _pooled(rows: list[Row]) -> Row:
    if len(rows) == 1:
        return rows[0] | {"seeds": 1}
    row = dict(rows[0]) | {
        "seeds": len(rows),
        "seed": None,
        "seconds": sum(r["seconds"] for r in rows),
    }
    row["doubts"] = sorted({doubt for r in rows for doubt in r["doubts"]})
    for name in ("abstained", "audited", "audited_held", "not_found"):
        if row.get(name) is not None:
            row[name] = sum(r[name] for r in rows)
    if row.get("distance_quartiles"):
        parts = zip(*(r["distance_quartiles"] for r in rows), strict=True)
        row["distance_quartiles"] = [None if None in part else mean(part) for part in parts]
    row["code"] = sorted({version for r in rows for version in r.get("code", [])})
    for name in SHARES:
        measured = [r for r in rows if r.get(name) is not None]
        if measured:
            row[name] = mean(r[name] for r in measured)
            bounded = [r for r in measured if r.get(f"{name}_interval") is not None]
            if bounded:
                row[f"{name}_interval"] = over_seeds(
                    [r[name] for r in bounded], [r[f"{name}_interval"] for r in bounded]
                )
    return row
