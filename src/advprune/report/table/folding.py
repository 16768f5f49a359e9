"""Fold a table that is wider than the terminal into parts, each begun by the names of its rows."""

from advprune.report.data.row import JobRecord, Row
from advprune.report.table.columns import Column
from advprune.report.table.line_breaks import with_breaks

#: Columns that tell rows apart; every part of a table repeats those that do.
NAMES = frozenset({"model", "weights from", "pruner", "ratio", "quantizer", "attack", "source"})
#: What a reader looks for first stands in the first part.
FIRST = ("clean", "robust", "certified")
#: What a column's frame takes: a line and two spaces.
FRAME = 3


def fold(
    columns: list[Column], rows: list[Row], failed: list[JobRecord], room: int
) -> tuple[str, list[list[Column]]]:
    """Return what goes above a table, and the columns of each of its parts.

    What names all rows alike is said once, above. The accuracies come first. Words are broken
    between the parts of a name; numbers are never broken.

    Args:
        columns: of the whole table.
        rows: of the table.
        failed: records of the jobs that failed, which have a row each.
        room: characters of a line.
    """
    same = [c for c in columns if c.heading in NAMES and _is_same(c, rows, failed)]
    above = ", ".join(_sentence(column, rows[0]) for column in same)
    kept = [with_breaks(column) for column in columns if column not in same]
    kept.sort(key=lambda column: column.heading not in FIRST)
    widths = {column.heading: _width(column, rows, failed) for column in kept}
    return above, _parts(kept, widths, room)


def _is_same(column: Column, rows: list[Row], failed: list[JobRecord]) -> bool:
    """Return whether a column has one text; a job that failed may know its first line alone."""
    first = column.cell(rows[0])
    alike = {first.split("\n")[0], first}
    return all(column.cell(row) == first for row in rows) and alike.issuperset(
        map(column.failed, failed)
    )


def _sentence(column: Column, row: Row) -> str:
    text = " ".join(column.cell(row).split("\n"))
    return text if column.words else f"{column.heading} {text}"


def _parts(columns: list[Column], widths: dict[str, int], room: int) -> list[list[Column]]:
    """Return as few parts as have room; each has the naming columns and at least one other."""
    names = [column for column in columns if column.heading in NAMES]
    others = [column for column in columns if column.heading not in NAMES]
    start = 1 + sum(widths[column.heading] for column in names)
    parts: list[list[Column]] = []
    used = room  # so that the first column begins a part
    for column in others:
        if used + widths[column.heading] > room:
            parts.append([*names])
            used = start
        parts[-1].append(column)
        used += widths[column.heading]
    return parts or [names]


def _width(column: Column, rows: list[Row], failed: list[JobRecord]) -> int:
    texts = [column.heading, *map(column.cell, rows), *map(column.failed, failed)]
    return FRAME + max(len(line) for text in texts for line in text.split("\n"))
