"""Print the table at the end of a job or a grid, and write it as CSV and JSON."""

import csv
import json
import sys
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from advprune.report.data.failures import cause
from advprune.report.data.intervals import pool
from advprune.report.data.row import JobRecord, Row
from advprune.report.table.columns import COLUMNS, Column, several_files
from advprune.report.table.footnotes import notes
from advprune.runtime.safe_files import write_atomically
from advprune.tracking.grid_place import differing, shared_words


def show(records: list[JobRecord], folder: Path) -> None:
    """Print the jobs' table and write ``table.csv`` and ``table.json``.

    Args:
        records: the ``job.json`` of each job, in order.
        folder: where the two files go.
    """
    rows = [record["row"] for record in records if "row" in record]
    failed = [record for record in records if "failed" in record]
    # names and paths are the user's, and are printed as they are
    console = Console(markup=False, emoji=False)
    if rows:
        pooled = pool(rows)
        for table in _tables(console, pooled, failed):
            console.print(table)
        for note in notes(pooled):
            console.print(Text.assemble(("·", "dim"), f" {note}"))
        _write(rows, folder)
    shared = shared_words([record["overrides"] for record in records]) if failed else ()
    for record in failed:
        job = f" {differing(record['overrides'], shared)}" if len(records) > 1 else ""
        sentence = Text.assemble(("error", "bold red"), f"{job}: {cause(record['failed'])}")
        Console(stderr=True).print(sentence, soft_wrap=True)
    if len(records) > 1 and failed:
        console.print(
            f"{len(failed)} of {len(records)} jobs failed; the same command tries only those again"
        )
    if rows:
        _print_summary(console, rows, folder)


def _tables(console: Console, rows: list[Row], failed: list[JobRecord]) -> list[Table]:
    """Return the table, or its parts where the terminal is narrower than it is."""
    columns, title = [column for column in COLUMNS if column.shown(rows)], _title(rows)
    whole = _table(columns, rows, failed, title)
    room = console.options.update(max_width=10**4)
    width = Measurement.get(console, room, whole).maximum
    if not sys.stdout.isatty():  # a file has no right edge: print as wide as the table is
        console.width = max(80, width)
    if width <= console.width:
        return [whole]
    from advprune.report.table.folding import fold  # most tables need none of it

    above, parts = fold(columns, rows, failed, console.width)
    titles = [f"{above}; {title}" if above else title, *[""] * (len(parts) - 1)]
    return [_table(part, rows, failed, name) for part, name in zip(parts, titles, strict=True)]


def _table(columns: list[Column], rows: list[Row], failed: list[JobRecord], title: str) -> Table:
    table = Table(title=title or None, title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(
            column.heading,
            justify="left" if column.words else "right",
            no_wrap=not column.words,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    for record in failed:
        table.add_row(*(column.failed(record) for column in columns), style="red")
    return table


def _title(rows: list[Row]) -> str:
    sets = {row["dataset"] for row in rows}
    return f"{', '.join([*sorted(sets), *_training(rows)])}; accuracy in % on test images"


def _training(rows: list[Row]) -> list[str]:
    """Return the file that all networks come from, and the objectives of training here or after.

    Several files have a column.
    """
    here = sorted({row["objective"] for row in rows if row["objective"] and not row.get("foreign")})
    after = sorted({row["objective"] for row in rows if row["objective"] and row.get("foreign")})
    files = sorted({row["foreign"] for row in rows if row.get("foreign")})
    source = "from a file" if several_files(rows) else f"from {''.join(files)}"
    sentences = {
        f"trained with {', '.join(here)}": here,
        f"{source} and then trained with {', '.join(after)}": after,
        source: files and not after and not several_files(rows),
    }
    return [sentence for sentence, holds in sentences.items() if holds]


def _write(rows: list[Row], folder: Path) -> None:
    """Replace both files. A link in their place is replaced, too, and not written through."""
    write_atomically(folder / "table.json", json.dumps(rows, indent=1))
    flat = [
        {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
        for row in rows
    ]
    write_atomically(
        folder / "table.csv", csv_text(dict.fromkeys(name for row in flat for name in row), flat)
    )


def _print_summary(console: Console, rows: list[Row], folder: Path) -> None:
    took = sum(row["this_command"] for row in rows)
    made, reused = sum(row["made"] for row in rows), sum(row["found"] for row in rows)
    console.print(f"made {made} stages and found {reused} in {took:.1f} s; files:", highlight=False)
    for name in rows[0]["files"] if len(rows) == 1 else []:
        console.print(f"  {name:9} {rows[0]['files'][name]}", highlight=False, soft_wrap=True)
    if len(rows) == 1 and "exported" in rows[0]:
        console.print(f"  exported  {rows[0]['exported']}", highlight=False, soft_wrap=True)
    console.print(f"  table     {folder}/table.csv, table.json", highlight=False, soft_wrap=True)


#: What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection), full-width forms
#: included.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_cell(value: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would compute; numbers stay numbers."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS) and not _is_number(value):
        return f"'{value}"
    return value


def csv_text(names: Iterable[str], rows: Iterable[dict[str, Any]]) -> str:
    """Return a CSV table with these columns; None becomes an empty cell."""
    out = StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")  # so that both are quoted within a cell
    names = list(names)
    writer.writerow(map(csv_cell, names))
    writer.writerows([csv_cell(row.get(name)) for name in names] for row in rows)
    return out.getvalue()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
