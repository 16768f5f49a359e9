"""Hold what the plots are drawn from, and the wording and grouping that they share."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from advprune.report.data.intervals import interval_notes
from advprune.report.data.leaderboard_rows import method, method_at_ratio
from advprune.report.data.row import Row
from advprune.report.data.runs import Run
from advprune.report.plots.looks import Looks

T = TypeVar("T")


@dataclass(frozen=True)
class PlotData:
    """Everything that the plots are drawn from.

    Attributes:
        rows: of the leaderboard, pooled over seeds.
        published: published rows of the same data sets and networks.
        runs: by the key of the evaluation.
        looks: colour, marker and line of each method.
        problems: a sentence for each file that could not be read.
    """

    rows: list[Row]
    published: list[Row]
    runs: dict[str, Run]
    looks: Looks = field(default_factory=Looks)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in sorted({method(row) for row in self.rows if row["pruner"]}):
            self.looks.of(name)

    def readable(self, read: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
        """Return what ``read`` makes of each item that it can; ``problems`` gets the others."""
        results = []
        for item in items:
            try:
                results.append(read(item))
            except ValueError as error:
                self.problems.append(f"{error}: left out of a plot")
        return results


def group_rows(rows: Iterable[Row], same: Callable[[Row], Hashable]) -> list[list[Row]]:
    """Return the rows in groups that have ``same`` in common, the largest groups first."""
    groups: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        groups[same(row)].append(row)
    return sorted(groups.values(), key=len, reverse=True)


def says_something(rows: Iterable[Row]) -> bool:
    """Return whether a picture shows more than a table: three networks, at two ratios or more."""
    rows = list(rows)
    return len({row["network"] for row in rows}) > 2 and len({row["ratio"] for row in rows}) > 1


def value_text(row: Row, name: str) -> str:
    """Return what a point stands for: ``hydra 0.99: 67.0 % [60.1, 73.2]``."""
    below, above = error_bar(row, name)
    share = 100 * row[name]
    interval = f" [{share - below:.1f}, {share + above:.1f}]" if below or above else ""
    return f"{method_at_ratio(row)}: {share:.1f} %{interval}"


def setting_text(row: Row) -> str:
    """Return data set, network and objective in words."""
    return ", ".join(str(row[name]) for name in ("dataset", "model", "objective") if row[name])


def error_bar(row: Row, name: str) -> tuple[float, float]:
    """Return how far a share's interval reaches below and above it, in points; 0 where unknown."""
    bounds = row.get(f"{name}_interval")
    if bounds is None:
        return 0.0, 0.0
    low, high = max(bounds[0], 0), min(bounds[1], 1)
    return 100 * max(row[name] - low, 0), 100 * max(high - row[name], 0)


def bars_note(rows: Iterable[Row]) -> str:
    """Return a sentence on what the error bars of these rows are."""
    return (
        "Bars: " + "; ".join(interval_notes({row["seeds"] for row in rows if row["seeds"]})) + "."
    )
