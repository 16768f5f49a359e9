"""Log a finished grid's table with the logger of its jobs."""

import hashlib
from pathlib import Path
from typing import Any

from advprune.config.groups import build
from advprune.tracking.logger import Job, Loggers

FILES = ("table.csv", "table.json")


def log_grid(
    records: list[dict[str, Any]], folder: Path, node: dict[str, Any], shared: Path
) -> None:
    """Log the table of these jobs.

    Args:
        records: the ``job.json`` of each. They were read from a folder, so nothing they name is
            called.
        folder: of the grid, with its table.
        node: of the loggers by name, from this command's own options.
        shared: the folder beside the store.
    """
    rows = [record["row"] for record in records if "row" in record]
    first = next((record for record in records if "row" in record and record.get("group")), None)
    if first is None:
        return
    identity = hashlib.sha256(first["group"].encode()).hexdigest()[:16]
    loggers = [logger for each in node.values() if (logger := build(each)).takes_grids]
    if not loggers:
        return
    logger = Loggers(loggers)
    grid = Job(
        id=identity,
        name=f"table: {first['group']}",
        group=first["group"],
        kind="grid",
        tags=["table"],
        stages=[],
        config={"jobs": len(records)},
        output=folder,
        shared=shared,
    )
    logger.open(grid)
    logger.grid(rows, [folder / name for name in FILES if (folder / name).exists()])
    logger.close(failed=False)
    if logger.working:
        print(f"logged {len(rows)} runs, one a job, and one more of type grid with their table")  # noqa: T201
