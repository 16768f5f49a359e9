"""Lay out the page's two tables for its template: headings, cells, filters, common values."""

from typing import Any

from advprune.report.data.row import Row
from advprune.report.page.comparisons import ShownComparison
from advprune.report.page.leaderboard import Field, shown_fields
from advprune.report.table.job_row import strength

#: Columns whose values a reader picks from a list.
FILTERED = (
    *("dataset", "model", "objective", "method", "attack", "threat"),
    *("data set", "differ in", "significant"),
)
CELL: dict[str, Any] = {
    "text": "",
    "small": "",
    "link": "",
    "value": None,
    "kind": "",
    "runs": (),
    "command": "",
    "flag": None,
    "heading": "",
}
#: CSS classes of a column's cells.
CLASSES = {"protocol": "wide", "doubts": "wide doubts", "method": "method", "threat": "nowrap"}
#: The accuracies; columns up to the last of these stay in sight while the others are scrolled.
ACCURACIES = ("clean_acc", "robust_acc", "certified_acc")
FLAG, RUNS = (
    {"text": text, "numeric": False, "aside": False} for text in ("doubts", "runs by seed")
)


def leaderboard_table(rows: list[Row]) -> dict[str, Any]:
    """Return the leaderboard of these rows as the template wants it."""
    fields, same = shown_fields(rows)
    numeric = {field.name: all(_is_number(field.value(row)) for row in rows) for field in fields}
    headings = [_heading(field, numeric=numeric[field.name]) for field in fields]
    kept = 1 + max((at for at, f in enumerate(fields) if f.name in ACCURACIES), default=-1)
    has_runs = any(row["runs"] for row in rows)
    lines = []
    for row in rows:
        cells = [_cell(field, row, number=numeric[field.name]) for field in fields]
        if has_runs:
            cells = [*cells[:kept], _flag_cell(row), *cells[kept:], _runs_cell(row)]
        lines.append(
            {
                "published": bool(row.get("published")),
                "weaker": bool(row.get("weaker")),
                "cells": cells,
            }
        )
    if has_runs:
        headings = [*headings[:kept], FLAG, *headings[kept:], RUNS]
    chosen = {f.heading for f in fields if f.name in FILTERED and len(set(map(f.cell, rows))) > 1}
    filters = [(at, head["text"]) for at, head in enumerate(headings) if head["text"] in chosen]
    return {
        "headings": headings,
        "rows": lines,
        "filters": filters,
        "same": same,
        "kept": kept,
        "weaker": sum(line["weaker"] for line in lines),
    }


def _heading(field: Field, *, numeric: bool) -> dict[str, Any]:
    return {"text": field.heading, "numeric": numeric, "aside": field.aside}


def comparison_table(compared: list[ShownComparison]) -> dict[str, Any]:
    """Return the comparisons as the template wants them: significant ones first, then by size."""
    rows = sorted(compared, key=lambda row: (not row["significant"], -abs(row["difference"])))
    names = list(rows[0]["cells"]) if rows else []
    texts = {name: {row["cells"][name][1] for row in rows} for name in names}
    same = [name for name in names if len(rows) > 1 and len(texts[name]) == 1]
    common = ", ".join(f"{name} {min(texts[name])}" for name in same if min(texts[name]))
    names = [name for name in names if name not in same]
    numeric = {name: all(_is_number(row["cells"][name][0]) for row in rows) for name in names}
    lines = [
        {
            "published": False,
            "weaker": False,
            "cells": [_comparison_cell(row, name, number=numeric[name]) for name in names],
        }
        for row in rows
    ]
    return {
        "headings": [{"text": name, "numeric": numeric[name], "aside": False} for name in names],
        "rows": lines,
        "filters": [(at, name) for at, name in enumerate(names) if name in FILTERED],
        "same": common,
        "kept": 0,
        "weaker": 0,
    }


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float)


def _cell(field: Field, row: Row, *, number: bool) -> dict[str, Any]:
    value = field.value(row)
    kind = "number" if number else CLASSES.get(field.name, "")
    if field.name == "versus":
        kind = "significant" if str(value).endswith(", significant") else ""
    text, small = field.parts(row)
    return CELL | {
        "text": text,
        "small": small,
        "link": f"#protocol-{row['protocol_id']}" if field.name == "protocol" and text else "",
        "value": _sort_value(value) if number else None,
        "kind": kind,
        "heading": field.heading,
    }


def _comparison_cell(row: ShownComparison, name: str, *, number: bool) -> dict[str, Any]:
    value, text = row["cells"][name]
    kind = "number" if number else ""
    if name == "significant" and row["significant"]:
        kind = "significant"
    return CELL | {
        "text": text,
        "value": _sort_value(value) if number else None,
        "kind": "nowrap" if text.startswith("[") else kind,
        "heading": name,
    }


def _sort_value(value: float | None) -> str:
    return "" if value is None else repr(value)


def _flag_cell(row: Row) -> dict[str, Any]:
    """Return the cell that tells at a glance whether something is to be doubted.

    Of a published row, which this code cannot doubt, it is empty.
    """
    if row.get("published"):
        return CELL | {"heading": FLAG["text"]}
    doubts = row.get("doubts") or []
    words = "; ".join(doubts) or f"no doubts{f' ({strength(row)})' if strength(row) else ''}"
    flag = {"count": len(doubts), "words": words, "run": next(iter(row["runs"].values()), "")}
    return CELL | {"kind": "flag", "flag": flag, "heading": FLAG["text"]}


def _runs_cell(row: Row) -> dict[str, Any]:
    """Return the last column's cell: a link for each seed, and the commands of all."""
    commands = "\n".join(row.get("commands", {}).values())
    runs = list(row["runs"].items())
    return CELL | {"kind": "of-runs", "runs": runs, "command": commands, "heading": RUNS["text"]}
