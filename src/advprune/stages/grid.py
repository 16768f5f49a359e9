"""After the jobs: one table of all of them, and the exit code. Hydra calls this, whatever launched the jobs."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from advprune.errors import UserError
from advprune.report.table import show
from advprune.stages.job import RECORD

log = logging.getLogger(__name__)
PAGE = "index.html"
EXIT = {"code": 0}


class Grid(Callback):
    """Reads each job's ``job.json``; prints the table once, at the end of a run or of a grid."""

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """A single job."""
        self._report(Path(config.hydra.runtime.output_dir), [Path(config.hydra.runtime.output_dir) / RECORD])

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """All jobs of a grid, in their order."""
        folder = Path(config.hydra.sweep.dir)
        self._report(folder, sorted(folder.glob(f"*/{RECORD}")))
        if config.get("report", True):
            renew(Path(config.store), folder / "table.json")

    def _report(self, folder: Path, paths: list[Path]) -> None:
        records = [json.loads(path.read_text()) for path in paths if path.exists()]
        records.sort(key=lambda record: record["number"])
        if not records or any("failed" in record for record in records):
            EXIT["code"] = 1
        if records:
            show(records, folder)


def renew(store: Path, table: Path) -> None:
    """Bring the report of the whole store up to date after a grid; whatever goes wrong is a line, and no failure.

    Args:
        table: of the grid, if one of its jobs succeeded.
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
    except Exception as error:  # noqa: BLE001 - the grid's results are safe and told; a picture must not undo that
        log.warning("no report (%s: %s); python -m advprune.report tries again", type(error).__name__, error)
    else:
        print(f"  report    {out / PAGE}")  # noqa: T201


def _is_new(page: Path, store: Path, rows: list[dict[str, Any]]) -> bool:
    """Whether nothing was made, here or by others, since the page was."""
    journal = store / "journal.jsonl"
    if any(row["made"] for row in rows) or not page.exists() or not journal.exists():
        return False
    return page.stat().st_mtime > journal.stat().st_mtime


def launch(main: Any) -> None:
    """Run a command's ``main`` and exit: 0, 1 if a job failed, 130 after Ctrl-C."""
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    sys.exit(EXIT["code"])
