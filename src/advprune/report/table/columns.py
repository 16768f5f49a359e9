"""The columns of the table: what each is called, what it shows of a row, and of which rows it is shown at all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from advprune.report.table.job_row import TRANSFER

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        heading: above it.
        cell: what it shows of a row.
        shown: whether it is in the table of these rows.
        failed: what it shows of the record of a job that failed.
        words: it holds words, which may be broken, and not numbers.
    """

    heading: str
    cell: Callable[[Row], str]
    shown: Callable[[list[Row]], bool] = bool
    failed: Callable[[dict[str, Any]], str] = lambda record: ""
    words: bool = False


def accuracy(row: Row, name: str) -> str:
    """A share in percent and, on a line of its own, its interval; a dash if it was not measured."""
    if row.get(name) is None:
        return "–"
    low, high = row[f"{name}_interval"]
    return f"{100 * row[name]:.1f}\n[{100 * max(low, 0):.1f}, {100 * min(high, 1):.1f}]"


def eps(row: Row) -> str:
    """The norm and the budget as papers write it: in 255ths where that is a whole number; or the attack's own words."""
    if row.get("perturbation"):
        return f"({row['perturbation']})"
    levels = row["eps"] * 255
    size = f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{row['eps']:g}"
    return f"{row['norm']} {size}"


def pruned(rows: list[Row]) -> bool:
    """Whether any of these jobs prunes."""
    return any(row.get("pruner") is not None and row["ratio"] is not None for row in rows)


def foreign(rows: list[Row]) -> bool:
    """Whether any of these networks, or its parent, was read from a file."""
    return any(row.get("foreign") for row in rows)


def moved(rows: list[Row]) -> bool:
    """Whether any of these jobs judges another network's examples."""
    return any(row.get("source") for row in rows)


def smaller(rows: list[Row]) -> bool:
    """Whether any of these networks lost filters or blocks."""
    return any("macs" in row for row in rows)


def quantizer(row: Row) -> str:
    """The quantizer and what of it was judged; nothing without one."""
    name = str(row.get("quantizer") or "none")
    return "" if name == "none" else name


def quantized(rows: list[Row]) -> bool:
    """Whether any of these networks is one of 8 bits."""
    return any(quantizer(row) for row in rows)


def _chosen(group: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: str(record["names"].get(group, ""))


def _asked(record: dict[str, Any]) -> str:
    return "" if record["ratio"] is None else f"{record['ratio']:g}"


def _gone(row: Row) -> str:
    """The share of zeros counted; of a smaller network, what is left of the dense one's parameters and MACs."""
    if "macs" in row:
        return (
            ", ".join(
                f"{100 * row[name] / row[f'dense_{name}']:.2f}" for name in ("params", "macs")
            )
            + " %"
        )
    return "–" if row["zeros"] is None else f"{row['zeros']:.4f}"


def _attack(row: Row) -> str:
    return f"{row['attack'].split(' ')[0]}\n{eps(row)}"


def _abstains(row: Row) -> str:
    """The share of images a certifier gives no answer for, of all seeds' together."""
    return (
        "–"
        if row.get("abstained") is None
        else f"{100 * row['abstained'] / (row['images'] * row['seeds']):.1f}"
    )


def abstaining(rows: list[Row]) -> bool:
    """Whether a certifier may have given no answer for some of their images."""
    return any(row.get("smoothed") or row.get("abstained") for row in rows)


def _images(row: Row) -> str:
    images = f"{row['images']}" if row["images"] == row["of"] else f"{row['images']} of {row['of']}"
    return images + (f"\n× {row['seeds']} seeds" if row["seeds"] > 1 else "")


def _share(name: str, heading: str, *, dense: bool = False) -> Column:
    """A share that any of the rows has; of the dense parent, too, where jobs prune and attack it themselves.

    On another network's examples, being right on the image and on its example is no share to
    report.
    """

    def shown(rows: list[Row]) -> bool:
        with_it = [
            row
            for row in rows
            if row.get(name) is not None and (name != "robust_acc" or not row.get("source"))
        ]
        return bool(with_it) and not (dense and (moved(rows) or not pruned(rows)))

    return Column(heading, lambda row: accuracy(row, name), shown)


JUDGED = ("clean", "robust", "certified")
HEADINGS = {
    "target_acc": "target right",
    "both_correct": "both right",
    "transfer_rate": "transfer rate",
}
COLUMNS = (
    Column("model", lambda row: row["model"], failed=_chosen("model"), words=True),
    Column("weights from", lambda row: row.get("foreign") or "", foreign, words=True),
    Column("pruner", lambda row: row.get("pruner") or "–", pruned, _chosen("pruner"), words=True),
    Column(
        "ratio", lambda row: "–" if row["ratio"] is None else f"{row['ratio']:g}", pruned, _asked
    ),
    Column("sparsity", _gone, lambda rows: (pruned(rows) or foreign(rows)) and not smaller(rows)),
    Column("params, MACs", _gone, lambda rows: pruned(rows) and smaller(rows)),
    Column(
        "quantizer", lambda row: quantizer(row) or "–", quantized, _chosen("quantizer"), words=True
    ),
    Column("attack", _attack, failed=_chosen("attack"), words=True),
    Column("source", lambda row: row.get("source") or "", moved, words=True),
    *(_share(f"dense_{name}_acc", f"dense {name}", dense=True) for name in JUDGED),
    Column("clean", lambda row: accuracy(row, "clean_acc"), failed=lambda record: "failed"),
    *(_share(f"{name}_acc", name) for name in JUDGED[1:]),
    Column("abstains", _abstains, abstaining),
    *(_share(name, HEADINGS[name]) for name in TRANSFER),
    Column("n", _images, failed=lambda record: f"seed {record.get('seed')}"),
    Column("seconds", lambda row: f"{row['seconds']:.0f}"),
)
