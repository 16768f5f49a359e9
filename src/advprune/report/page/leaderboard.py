"""The leaderboard: one row a method, ours and published, in the columns that any row can fill."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from advprune.report.data.doubts import strength
from advprune.report.data.leaderboard_rows import method, verdict
from advprune.report.table.columns import eps

Row = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """A column: ``value`` of a row (None if it has none), and how a reader sees it."""

    name: str
    heading: str
    value: Callable[[Row], Any]
    text: Callable[[Any], str] = str
    interval: bool = False

    def parts(self, row: Row) -> tuple[str, str]:
        """What a reader sees, and the interval that may stand on a line of its own; empty where there is nothing."""
        value = self.value(row)
        if value is None or value == "":
            return "", ""
        return self.text(value), _interval(
            row.get(f"{self.name}_interval")
        ) if self.interval else ""

    def cell(self, row: Row) -> str:
        """Both in one line."""
        return " ".join(part for part in self.parts(row) if part)


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{100 * share:.1f}"


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"[{percent(max(bounds[0], 0))}, {percent(min(bounds[1], 1))}]"


def _of(name: str) -> Callable[[Row], Any]:
    return lambda row: row.get(name)


def _share(name: str, heading: str) -> Field:
    return Field(name, heading, _of(name), percent, interval=True)


def _threat(row: Row) -> str:
    if row.get("perturbation"):
        return str(row["perturbation"])
    return row["norm"] if row["eps"] is None else eps(row)


def _part(row: Row) -> int | None:
    """How many test images there are, where not all were attacked."""
    return None if row.get("of") in (None, row["images"]) else int(row["of"])


def _doubts(row: Row) -> str:
    return "; ".join(row.get("doubts") or [])


FIELDS = (
    Field("dataset", "data set", _of("dataset")),
    Field("model", "model", _of("model")),
    Field("foreign", "weights from", _of("foreign")),
    Field("objective", "objective", _of("objective")),
    Field("method", "pruner", method),
    Field("ratio", "ratio", _of("ratio"), lambda ratio: f"{ratio:g}"),
    Field(
        "sparsity", "sparsity", lambda row: row["sparsity"] or None, lambda share: f"{share:.4g}"
    ),
    Field("unit", "removes", _of("unit")),
    Field("attack", "attack", _of("attack")),
    Field("threat", "threat", _threat),
    Field("strength", "strength", strength),
    Field("source", "examples of", _of("source")),
    Field("images", "images", _of("images")),
    Field("of", "of", _part),
    Field("seeds", "seeds", _of("seeds")),
    _share("clean_acc", "clean %"),
    _share("robust_acc", "robust %"),
    _share("certified_acc", "certified %"),
    Field("versus", "against the best", _of("versus")),
    _share("transfer_rate", "transfer rate %"),
    _share("dense_robust_acc", "dense robust %"),
    _share("dense_certified_acc", "dense certified %"),
    Field("macs", "MACs", lambda row: row.get("costs", {}).get("macs"), lambda macs: f"{macs:.4g}"),
    Field(
        "seconds_128",
        "ms a batch of 128",
        lambda row: row.get("costs", {}).get("seconds_128"),
        lambda seconds: f"{1000 * seconds:.3g}",
    ),
    Field("doubts", "doubts", _doubts),
    Field("protocol", "published in", _of("protocol")),
)


def shown(rows: list[Row]) -> tuple[list[Field], str]:
    """The columns that any of these rows fills and that differ among them; and what is the same in all, in words."""
    filled = [field for field in FIELDS if any(field.cell(row) for row in rows)]
    same = [
        f
        for f in filled
        if f.name in FRAME and len(rows) > 1 and len({f.cell(row) for row in rows}) == 1
    ]
    told = ", ".join(f"{field.heading} {field.cell(rows[0])}" for field in same)
    return [field for field in filled if field not in same], told


#: Columns that need not be there where all rows say the same.
FRAME = ("dataset", "model", "foreign", "objective", "unit", "attack", "threat", "source")


def fair(row: Row) -> tuple[Any, ...]:
    """What two rows must share for their shares to be compared at all."""
    names = (
        "dataset",
        "model",
        "foreign",
        "objective",
        "attack",
        "norm",
        "eps",
        "source",
        "images",
        "ratio",
        "unit",
        "quantizer",
    )
    return tuple(row.get(name) for name in names)


def rank(rows: list[Row], compared: list[dict[str, Any]]) -> None:
    """Write into each pruned row how it stands against the best of its kind: ``versus``.

    Args:
        rows: pooled, see ``entries``.
        compared: see ``compare.comparisons``; only its verdicts are used, no difference is judged
            here.
    """
    asked = {}
    for row in compared:
        sides = [next(iter(row[side].values())).identity for side in ("of", "against")]
        asked[tuple(sides)], asked[tuple(sides[::-1])] = row, row
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["ratio"] is not None:
            groups.setdefault(fair(row), []).append(row)
    for group in groups.values():
        if len(group) < 2:
            continue
        best = max(group, key=lambda row: row[verdict(row)])
        for row in group:
            row["versus"] = (
                "best"
                if row is best
                else _said(row, best, asked.get((row["identity"], best["identity"])))
            )


def _said(row: Row, best: Row, asked: dict[str, Any] | None) -> str:
    points = f"{100 * (row[verdict(row)] - best[verdict(best)]):+.1f}"
    if asked is None:
        return f"{points}, not compared"
    return f"{points}, {'stands' if asked['stands'] else 'does not stand'}"
