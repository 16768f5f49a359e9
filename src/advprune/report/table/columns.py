"""Define the job table's columns: what each shows of a row, and which rows need it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from advprune.report.data.attack_names import threat_text
from advprune.report.data.row import JobRecord, Row
from advprune.report.table.job_row import TRANSFER


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        heading: its heading.
        cell: row -> the text of its cell.
        shown: rows -> whether the table of these rows has the column.
        failed: record of a job that failed -> the text of its cell.
        words: whether the cells are words, which may be broken over lines, and not numbers.
    """

    heading: str
    cell: Callable[[Row], str]
    shown: Callable[[list[Row]], bool] = bool
    failed: Callable[[JobRecord], str] = lambda record: ""
    words: bool = False


def accuracy(row: Row, name: str) -> str:
    """Return a share in percent and, on the next line, its interval; a dash if not measured."""
    if row.get(name) is None:
        return "–"
    low, high = row[f"{name}_interval"]
    return f"{100 * row[name]:.1f}\n[{100 * max(low, 0):.1f}, {100 * min(high, 1):.1f}]"


def any_pruned(rows: list[Row]) -> bool:
    """Return whether any of these jobs prunes."""
    return any(row.get("pruner") is not None and row["ratio"] is not None for row in rows)


def any_foreign(rows: list[Row]) -> bool:
    """Return whether any of these networks, or its parent, was read from a file."""
    return any(row.get("foreign") for row in rows)


def several_files(rows: list[Row]) -> bool:
    """Return whether these networks are not all from one file, or all from none."""
    return len({row.get("foreign") for row in rows}) > 1


def any_transfer(rows: list[Row]) -> bool:
    """Return whether any of these jobs evaluates on another network's examples."""
    return any(row.get("source") for row in rows)


def any_structured(rows: list[Row]) -> bool:
    """Return whether any of these networks lost filters or blocks."""
    return any("macs" in row for row in rows)


def quantizer(row: Row) -> str:
    """Return the quantizer and the variant of it that was evaluated; empty without one."""
    name = str(row.get("quantizer") or "none")
    return "" if name == "none" else name


def any_quantized(rows: list[Row]) -> bool:
    """Return whether any of these networks has 8-bit weights."""
    return any(quantizer(row) for row in rows)


def _member(group: str, record: JobRecord) -> str:
    return str(record["names"].get(group, ""))


def _requested_ratio(record: JobRecord) -> str:
    return "" if record["ratio"] is None else f"{record['ratio']:g}"


def _sparsity(row: Row, between: str = "\n") -> str:
    """Return the share of zeros and, on the next lines, parameters and MACs that are not zero.

    Of a smaller network it is the shares of parameters and MACs that are left.
    """
    return "\n".join(filter(None, (_share(row), _counts(row, between))))


def _share(row: Row) -> str:
    if "macs" in row:
        shares = (100 * row[name] / row[f"dense_{name}"] for name in ("params", "macs"))
        return f"{', '.join(f'{share:.2f}' for share in shares)} %"
    return "–" if row["zeros"] is None else f"{row['zeros']:.4f}"


def _counts(row: Row, between: str = "\n") -> str:
    """Return how many parameters and MACs are not zero; empty where they were not counted."""
    numbers = [row.get(name) for name in ("nonzero_parameters", "nonzero_macs")]
    return "" if None in numbers else between.join(map(count, numbers))


def count(number: float | None) -> str:
    """Return a count in three digits: ``1.23 M``, ``45.6 k``; a dash if it was not counted."""
    if number is None:
        return "–"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"  # a mean over seeds is not whole


def _any_counted(rows: list[Row]) -> bool:
    return any(row.get("nonzero_parameters") is not None for row in rows)


def _attack(row: Row) -> str:
    return f"{row['attack'].split(' ')[0]}\n{threat_text(row)}"


def _abstains(row: Row) -> str:
    """Return for how many images a certifier gave no answer, in percent over all seeds."""
    return (
        "–"
        if row.get("abstained") is None
        else f"{100 * row['abstained'] / (row['images'] * row['seeds']):.1f}"
    )


def any_abstaining(rows: list[Row]) -> bool:
    """Return whether a certifier may have given no answer for some images."""
    return any(row.get("smoothed") or row.get("abstained") for row in rows)


def _images(row: Row) -> str:
    images = f"{row['images']}" if row["images"] == row["of"] else f"{row['images']} of {row['of']}"
    return images + (f"\n× {row['seeds']} seeds" if row["seeds"] > 1 else "")


def _any_measured(name: str, rows: list[Row]) -> bool:
    """Return whether any row has this accuracy.

    On another network's examples, being right on the image and on its example is not robust
    accuracy.
    """
    return any(
        row.get(name) is not None and (name != "robust_acc" or not row.get("source"))
        for row in rows
    )


def _any_dense_measured(name: str, rows: list[Row]) -> bool:
    """Return whether the dense parents' accuracy is shown: jobs prune and attack it themselves."""
    return _any_measured(name, rows) and any_pruned(rows) and not any_transfer(rows)


ACCURACIES = ("clean", "robust", "certified")
HEADINGS = {
    "target_acc": "target right",
    "both_correct": "both right",
    "transfer_rate": "transfer rate",
}
COLUMNS = (
    Column("model", lambda row: row["model"], failed=partial(_member, "model"), words=True),
    Column("weights from", lambda row: row.get("foreign") or "", several_files, words=True),
    Column(
        "pruner",
        lambda row: row.get("pruner") or "–",
        any_pruned,
        partial(_member, "pruner"),
        words=True,
    ),
    Column(
        "ratio",
        lambda row: "–" if row["ratio"] is None else f"{row['ratio']:g}",
        any_pruned,
        _requested_ratio,
    ),
    Column(
        "sparsity\nparams\nMACs",
        _sparsity,
        lambda rows: (any_pruned(rows) or any_foreign(rows)) and not any_structured(rows),
    ),
    Column(
        "params\nMACs",
        _counts,
        lambda rows: _any_counted(rows) and not any_pruned(rows) and not any_foreign(rows),
    ),
    Column(
        "params, MACs",
        partial(_sparsity, between=", "),
        lambda rows: any_pruned(rows) and any_structured(rows),
    ),
    Column(
        "quantizer",
        lambda row: quantizer(row) or "–",
        any_quantized,
        partial(_member, "quantizer"),
        words=True,
    ),
    Column("attack", _attack, failed=partial(_member, "attack"), words=True),
    Column("source", lambda row: row.get("source") or "", any_transfer, words=True),
    *(
        Column(
            f"dense {name}",
            partial(accuracy, name=f"dense_{name}_acc"),
            partial(_any_dense_measured, f"dense_{name}_acc"),
        )
        for name in ACCURACIES
    ),
    Column("clean", lambda row: accuracy(row, "clean_acc"), failed=lambda record: "failed"),
    *(
        Column(name, partial(accuracy, name=f"{name}_acc"), partial(_any_measured, f"{name}_acc"))
        for name in ACCURACIES[1:]
    ),
    Column("abstains", _abstains, any_abstaining),
    *(
        Column(HEADINGS[name], partial(accuracy, name=name), partial(_any_measured, name))
        for name in TRANSFER
    ),
    Column("n", _images, failed=lambda record: f"seed {record.get('seed')}"),
    Column("seconds", lambda row: f"{row['seconds']:.0f}"),
)
