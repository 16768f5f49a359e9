"""Bring the report of a store up to date when a grid ends."""

import json
import logging
from pathlib import Path
from typing import Any

from advprune.errors import UserError

log = logging.getLogger(__name__)
PAGE = "index.html"


def refresh_report(store: Path, table: Path) -> None:
    """Bring the report of the whole store up to date; a failure is one line, and fails no grid.

    Args:
        store: whose results are reported.
        table: of the grid; it exists if one of its jobs succeeded.
    """
    out = store.parent / "report"
    try:
        if not table.exists():
            return
        if not _is_new(out / PAGE, store, json.loads(table.read_text())):
            from advprune.report.build import build, tables_of

            build(store, out, dict.fromkeys([*tables_of(store), table]))
    except UserError as error:
        log.warning("no report: %s", error)
    except Exception as error:  # noqa: BLE001 - the grid's results are safe and printed; a picture must not undo that
        log.warning(
            "no report (%s: %s); python -m advprune.report tries again", type(error).__name__, error
        )
    else:
        print(f"  report    {out / PAGE}")  # noqa: T201


def _is_new(page: Path, store: Path, rows: list[dict[str, Any]]) -> bool:
    """Return whether nothing was made, here or by others, since the page was written."""
    journal = store / "journal.jsonl"
    if any(row["made"] for row in rows) or not page.exists() or not journal.exists():
        return False
    return page.stat().st_mtime > journal.stat().st_mtime
