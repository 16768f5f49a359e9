"""Break words that are too long for a cell, between the parts of a name; never a number."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from advprune.report.data.row import JobRecord, Row
from advprune.report.table.columns import Column

Shown = TypeVar("Shown", Row, JobRecord)
#: Where a line of words may be broken: after these characters.
BREAKS = re.compile(r"(?<=[ _./=,-])")
#: Characters of a line of words, at most, unless one part of a name is longer.
LINE = 22


def with_breaks(column: Column) -> Column:
    """Return a column of words with breaks in its cells; one of numbers as it is."""
    if not column.words:
        return column
    return replace(column, cell=_breaking(column.cell), failed=_breaking(column.failed))


def _breaking(cell: Callable[[Shown], str]) -> Callable[[Shown], str]:
    return lambda row: "\n".join(map(broken, cell(row).split("\n")))


def broken(line: str) -> str:
    """Return a line of words with breaks where it would be too long, between parts of a name."""
    lines = [""]
    for piece in BREAKS.split(line):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > LINE:
            lines.append("")
        lines[-1] += piece
    return "\n".join(part.rstrip() for part in lines)
