"""After the jobs: one table of all of them, and the exit code. Hydra calls this, whatever launched the jobs."""

import json
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from advprune.report.table import show
from advprune.stages.job import RECORD
from advprune.stages.told_grid import tell

EXIT = {"code": 0}


class Grid(Callback):
    """Reads each job's ``job.json``; prints the table once, at the end of a run or of a grid."""

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """A single job."""
        self._report(Path(config.hydra.runtime.output_dir), [Path(config.hydra.runtime.output_dir) / RECORD])

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """All jobs of a grid, in their order."""
        folder = Path(config.hydra.sweep.dir)
        tell(self._report(folder, sorted(folder.glob(f"*/{RECORD}"))), folder)

    def _report(self, folder: Path, paths: list[Path]) -> list[dict[str, Any]]:
        records = [json.loads(path.read_text()) for path in paths if path.exists()]
        records.sort(key=lambda record: record["number"])
        if not records or any("failed" in record for record in records):
            EXIT["code"] = 1
        if records:
            show(records, folder)
        return records


def launch(main: Any) -> None:
    """Run a command's ``main`` and exit: 0, 1 if a job failed, 130 after Ctrl-C."""
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    sys.exit(EXIT["code"])
