"""Escape users' text for the cells of CSV, LaTeX and Markdown files, and keep it on one line."""

import csv
from collections.abc import Iterable
from io import StringIO
from typing import Any

#: What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection), full-width forms
#: included.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
LATEX = {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    **{special: f"\\{special}" for special in "&%$#_{}"},
}


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


def latex_cell(text: str) -> str:
    """Escape every character that LaTeX would act on."""
    return "".join(LATEX.get(character, character) for character in _one_line(text))


def markdown_cell(text: str) -> str:
    """Escape what would end the cell, begin a tag or make a link."""
    for special in ("\\", "|", "`"):
        text = text.replace(special, f"\\{special}")
    return _one_line(text).replace("<", "&lt;").replace("](", "]\\(")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
