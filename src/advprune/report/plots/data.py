"""What the plots are drawn from, and words they share."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from advprune.report.data.intervals import described
from advprune.report.data.leaderboard_rows import method
from advprune.report.data.runs import Run
from advprune.report.plots.style import Looks
from advprune.report.table.columns import eps

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Material:
    """Pooled rows, published rows of the same data sets and networks, all runs by key; one look for each method."""

    rows: list[Row]
    published: list[Row]
    runs: dict[str, Run]
    looks: Looks = field(default_factory=Looks)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in sorted({method(row) for row in self.rows if row["pruner"]}):
            self.looks.of(name)

    def readable(self, read: Callable[[Any], T], those: Iterable[Any]) -> list[T]:
        """What ``read`` makes of those that it can; ``problems`` gets a sentence for each other one."""
        found = []
        for one in those:
            try:
                found.append(read(one))
            except ValueError as error:
                self.problems.append(f"{error}: left out of a plot")
        return found


def grouped(rows: Iterable[Row], same: Callable[[Row], Hashable]) -> list[list[Row]]:
    """The rows by what they have in common, the largest groups first."""
    groups: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        groups[same(row)].append(row)
    return sorted(groups.values(), key=len, reverse=True)


def attacked(row: Row) -> str:
    """The attack and its budget in a few words."""
    told = row["attack"] if row["eps"] is None else f"{row['attack']} {eps(row)}"
    return f"{told} on examples of {row['source']}" if row.get("source") else told


def setting(row: Row) -> str:
    """Data set, network, objective."""
    return ", ".join(str(row[name]) for name in ("dataset", "model", "objective") if row[name])


def spread(row: Row, name: str) -> tuple[float, float]:
    """How far the interval of a share reaches below and above it, in points; nothing where none is known."""
    bounds = row.get(f"{name}_interval")
    if bounds is None:
        return 0.0, 0.0
    low, high = max(bounds[0], 0), min(bounds[1], 1)
    return 100 * max(row[name] - low, 0), 100 * max(high - row[name], 0)


def bars(rows: Iterable[Row]) -> str:
    """What the error bars of these rows are."""
    return "Bars: " + "; ".join(described({row["seeds"] for row in rows if row["seeds"]})) + "."
