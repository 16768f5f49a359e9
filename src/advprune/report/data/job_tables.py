"""Read the ``table.json`` that a job or a grid wrote: its names for options, and measured sizes."""

import json
from pathlib import Path
from typing import Any

from advprune.report.data.row import Row


def read_table(path: Path, problems: list[str]) -> list[Row] | None:
    """Return the rows of a table; None, and a sentence in ``problems``, if no job wrote it."""
    try:
        rows = [
            row
            for row in json.loads(path.read_text())
            if isinstance(row["files"]["evaluated"], str)
        ]
        measured_sizes([rows])
        return rows
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        problems.append(f"{path} is not a table that a job wrote ({error}): its words are not used")
        return None


def measured_sizes(tables: list[list[Row]]) -> dict[str, dict[str, Any]]:
    """Return what ``sizes=true`` measured, by the key of the network's stage; the last counts."""
    sizes: dict[str, dict[str, Any]] = {}
    for row in (row for rows in tables for row in rows if "sizes" in row):
        for kind, folder in row["files"].items():
            if kind != "evaluated":
                sizes[Path(folder).name] = row["sizes"]["dense" if kind == "dense" else "final"]
    return sizes
