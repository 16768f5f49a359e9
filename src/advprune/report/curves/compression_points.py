"""Compare networks at equal clean accuracy on their dense parent's adversarial examples."""

from collections.abc import Iterable
from itertools import pairwise
from statistics import mean
from typing import Any

from advprune.report.data.intervals import of_unpaired, over_seeds
from advprune.report.data.row import Row

#: Column, the attack whose rows have it, title of its plot.
QUANTITIES = (
    ("clean_acc", "transfer", "clean accuracy"),
    ("robust_acc", "pgd", "white-box accuracy (PGD)"),
    ("target_acc", "transfer", "accuracy on the dense parent's examples"),
    ("transfer_rate", "transfer", "wrong where the source is fooled (both clean-right)"),
)
#: Of one network: quantity -> share, and the two ends of its interval over the images.
Point = dict[str, float]
#: strategy -> compression -> seed -> point
Curves = dict[str, dict[float, dict[int, Point]]]
ENDS = ("_low", "_high")


def strategy(row: Row) -> str:
    """Return the pruner with its options, as the table names it."""
    return str(row["pruner"])


def curves(rows: Iterable[Row]) -> Curves:
    """Sort jobs' rows by strategy, compression and seed; one network's attacks share a point."""
    sorted_rows: Curves = {}
    for row in rows:
        by_compression = sorted_rows.setdefault(strategy(row), {})
        seeds = by_compression.setdefault(round(row["compression"], 1), {})
        point = seeds.setdefault(row["seed"], {})
        attack = "transfer" if row.get("source") else "pgd"
        for name, of, _ in QUANTITIES:
            if of == attack and row.get(name) is not None:
                ends = zip(ENDS, row[f"{name}_interval"], strict=True)
                point |= {name: row[name]} | {f"{name}{end}": bound for end, bound in ends}
    return sorted_rows


def interpolated(points: list[tuple[float, float]], x: float) -> float | None:
    """Return the height at ``x`` of the line through these points (x, y); None outside of them."""
    points = sorted(points)
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1:
            return y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return None


def matched(strategies: Curves, ours: str) -> list[dict[str, Any]]:
    """Compare ``ours`` with each rival at the same clean accuracy, on the dense parent's examples.

    Per compression and seed, the rival's accuracy on the parent's examples is read off the line
    through its own (clean, transferred) points of that seed, where the clean accuracy of ``ours``
    is among them.

    Returns:
        A row each: rival, compression, clean accuracy, difference (in shares), its interval over
        images and seeds, and how many seeds.
    """
    rows = []
    for rival in strategies:
        if rival == ours:
            continue
        for compression, seeds in sorted(strategies[ours].items()):
            pairs_of_seeds = [
                (point["clean_acc"], *at_same)
                for seed, point in seeds.items()
                if (at_same := _difference(point, _points(strategies[rival], seed))) is not None
            ]
            if pairs_of_seeds:
                clean, differences, intervals = zip(*pairs_of_seeds, strict=True)
                rows.append(
                    {
                        "of": ours,
                        "rival": rival,
                        "compression": compression,
                        "clean_acc": mean(clean),
                        "difference": mean(differences),
                        "interval": over_seeds(differences, intervals),
                        "seeds": len(differences),
                    }
                )
    return rows


def _points(rival: dict[float, dict[int, Point]], seed: int) -> list[Point]:
    return [seeds[seed] for seeds in rival.values() if seed in seeds]


def _difference(point: Point, rival: list[Point]) -> tuple[float, list[float]] | None:
    """Return how much better ``point`` is on the parent's examples, and the interval, if known."""
    x = point["clean_acc"]
    theirs = [
        interpolated([(at["clean_acc"], at[f"target_acc{end}"]) for at in rival], x)
        for end in ("", *ENDS)
    ]
    value, low, high = theirs
    if value is None or low is None or high is None:
        return None
    ours = [point[f"target_acc{end}"] for end in ENDS]
    return point["target_acc"] - value, of_unpaired(point["target_acc"], ours, value, [low, high])
