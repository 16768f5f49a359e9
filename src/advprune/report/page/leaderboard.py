"""Define the leaderboard's columns: what each shows of a row, and which rows need it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from advprune.report.data.attack_names import threat_text
from advprune.report.data.leaderboard_rows import method
from advprune.report.data.row import Row
from advprune.report.table.columns import count
from advprune.report.table.job_row import strength


@dataclass(frozen=True)
class Field:
    """One column.

    Attributes:
        name: of the column in CSV.
        heading: above the column, for a reader.
        value: row -> its value; None if it has none.
        text: value -> how a reader sees it.
        interval: whether ``{name}_interval`` of the row is shown with it.
        aside: whether the page shows the column only if it is asked for.
    """

    name: str
    heading: str
    value: Callable[[Row], Any]
    text: Callable[[Any], str] = str
    interval: bool = False
    aside: bool = False

    def parts(self, row: Row) -> tuple[str, str]:
        """Return the cell's text, and its interval for a smaller line; empty without a value."""
        value = self.value(row)
        if value is None or value == "":
            return "", ""
        return self.text(value), _interval(
            row.get(f"{self.name}_interval")
        ) if self.interval else ""

    def cell(self, row: Row) -> str:
        """Return text and interval in one line."""
        return " ".join(part for part in self.parts(row) if part)


def percent(share: float) -> str:
    """Return a share as a percentage, without the sign."""
    return f"{100 * share:.1f}"


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"[{percent(max(bounds[0], 0))}, {percent(min(bounds[1], 1))}]"


def _of(name: str) -> Callable[[Row], Any]:
    return lambda row: row.get(name)


def _cost(name: str) -> Callable[[Row], Any]:
    return lambda row: row.get("costs", {}).get(name)


def _share(name: str, heading: str, *, aside: bool = False) -> Field:
    return Field(name, heading, _of(name), percent, interval=True, aside=aside)


def _threat(row: Row) -> str:
    if row.get("perturbation"):
        return str(row["perturbation"])
    return row["norm"] if row["eps"] is None else threat_text(row)


def _part(row: Row) -> int | None:
    """Return how many test images there are, where not all were attacked."""
    return None if row.get("of") in (None, row["images"]) else int(row["of"])


def _doubts(row: Row) -> str:
    return "; ".join(row.get("doubts") or [])


#: What a reader looks for first stands first; the page keeps it in sight up to the accuracies.
FIELDS = (
    Field("place", "place", _of("place")),
    Field("dataset", "data set", _of("dataset")),
    Field("model", "model", _of("model")),
    Field("method", "pruner", method),
    Field("ratio", "ratio", _of("ratio"), lambda ratio: f"{ratio:g}"),
    _share("clean_acc", "clean %"),
    _share("robust_acc", "robust %"),
    _share("certified_acc", "certified %"),
    Field("threat", "threat", _threat),
    Field("attack", "attack", _of("attack")),
    Field("strength", "strength", strength),
    Field("versus", "against the best", _of("versus")),
    Field("objective", "objective", _of("objective")),
    Field("foreign", "weights from", _of("foreign")),
    Field("source", "examples of", _of("source")),
    Field("parameters", "parameters", _cost("parameters"), count),
    Field("macs", "MACs", _cost("macs"), count),
    Field("images", "images", _of("images")),
    Field("of", "of", _part),
    Field("seeds", "seeds", _of("seeds"), aside=True),
    Field("unit", "removes", _of("unit")),
    Field("ratio_of", "ratio of", _of("ratio_of"), aside=True),
    Field(
        "sparsity",
        "sparsity",
        lambda row: row["sparsity"] or None,
        lambda share: f"{share:.4g}",
        aside=True,
    ),
    Field("published_acc", "published %", _of("published_acc"), percent),
    Field("published_versus", "from the published", _of("published_versus")),
    _share("transfer_rate", "transfer rate %"),
    _share("dense_robust_acc", "dense robust %", aside=True),
    _share("dense_certified_acc", "dense certified %", aside=True),
    Field(
        "seconds_128",
        "ms a batch of 128",
        _cost("seconds_128"),
        lambda seconds: f"{1000 * seconds:.3g}",
        aside=True,
    ),
    Field("doubts", "doubts in words", _doubts, aside=True),
    Field("protocol", "published in", _of("protocol")),
)
#: Columns that are named once above the table where all rows say the same.
OMITTED_IF_EQUAL = ("dataset", "foreign", "objective", "unit", "ratio_of", "attack", "source")


def shown_fields(rows: list[Row]) -> tuple[list[Field], str]:
    """Return the columns that these rows fill and differ in, and what they have in common."""
    filled = [field for field in FIELDS if any(field.cell(row) for row in rows)]
    same = [
        f
        for f in filled
        if f.name in OMITTED_IF_EQUAL and len(rows) > 1 and len({f.cell(row) for row in rows}) == 1
    ]
    common = ", ".join(f"{field.heading} {field.cell(rows[0])}" for field in same)
    return [field for field in filled if field not in same], common
