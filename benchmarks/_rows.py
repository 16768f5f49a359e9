"""The rows of a benchmark as text, importable by a fresh process, as ``__main__`` is not."""

from importlib import import_module
from typing import Any

COLUMNS = ("what", "against", "bar", "measured")


def rows_of(name: str) -> list[dict[str, Any]]:
    """Run a benchmark in this process and return its rows."""
    rows: list[dict[str, Any]] = import_module(f"benchmarks.{name}").run()
    return [
        {c: f"{row[c]:.3g}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS}
        for row in rows
    ]
