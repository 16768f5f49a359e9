"""Run all benchmarks, or those named, and print one table: python -m benchmarks [NAME …]

Each is measured in a process of its own: threads, allocator and memory of one are not those of the
next.
"""

import pkgutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks._rows import COLUMNS, rows_of


def names() -> list[str]:
    """Return the names of the modules here that have ``run()``."""
    modules = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return [name for name in modules if not name.startswith("_")]


def measured(name: str) -> list[dict[str, Any]]:
    """Run a benchmark in a fresh process; one that fails is a row, and the others go on."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            return process.submit(rows_of, name).result()
        except Exception as error:  # noqa: BLE001 - whatever it raised is its result
            return [
                {
                    "what": name,
                    "against": "",
                    "bar": "",
                    "measured": f"FAILED: {type(error).__name__}: {error}",
                }
            ]


def main(chosen: list[str]) -> int:
    """Run the benchmarks one after the other and return how many failed.

    Raises:
        SystemExit: if there is no benchmark of one of these names.
    """
    unknown = set(chosen) - set(names())
    if unknown:
        raise SystemExit(
            f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}"
        )
    table = Table(*COLUMNS, title="advprune benchmarks", title_justify="left")
    failed = 0
    for name in chosen or names():
        print(f"running {name} …", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        for row in measured(name):
            failed += row["measured"].startswith("FAILED")
            print("  " + " | ".join(row[c] for c in COLUMNS), file=sys.stderr, flush=True)
            table.add_row(*(row[c] for c in COLUMNS))
        table.add_section()
        print(f"  {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
