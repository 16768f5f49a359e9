"""After the jobs: one table of all of them, and the exit code. Hydra calls this, whatever launched the jobs.

``python -m advprune.stages.grid FOLDER`` prints the table of a grid again, or of one whose jobs are still under way.
"""

import atexit
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from advprune import preemption
from advprune.report.table import show
from advprune.stages import words, world
from advprune.stages.again import place_of
from advprune.stages.command import explained, understand
from advprune.stages.job import RECORD
from advprune.stages.renew import renew
from advprune.stages.told_grid import tell as tell_logger

EXIT = {"code": 0}
#: What a launcher writes beside the jobs: one record each, before they run.
LAUNCHED = "launched.json"


class Grid(Callback):
    """Reads each job's ``job.json``; prints the table once, at the end of a run or of a grid."""

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """A single job."""
        if world.started()[0]:
            return
        path = Path(config.hydra.runtime.output_dir) / RECORD
        tell([json.loads(path.read_text())] if path.exists() else [], path.parent)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """All jobs of a grid, in their order."""
        if world.started()[0]:
            return
        folder = Path(config.hydra.sweep.dir)
        found = records(folder)
        tell(found, folder)
        tell_logger(found, folder)
        if config.get("report", True):
            renew(Path(config.store), folder / "table.json")


def records(folder: Path) -> list[dict[str, Any]]:
    """What each job of the grid in ``folder`` wrote down; of those that have not begun, what the launcher did."""
    launched = folder / LAUNCHED
    waiting = json.loads(launched.read_text()) if launched.exists() else []
    begun = [json.loads(path.read_text()) for path in sorted(folder.glob(f"*/{RECORD}"))]
    found = {record["number"]: record for record in [*waiting, *begun]}
    return sorted(found.values(), key=place_of(folder))


def tell(records: list[dict[str, Any]], folder: Path) -> None:
    """Print the table, and how many jobs have none of it; set the exit code."""
    if not records or any("failed" in record for record in records):
        EXIT["code"] = 1
    if records:
        show(records, folder)
    given_up = sum("given_up" in record for record in records)
    under_way = [record for record in records if not record.keys() & {"row", "failed", "given_up"}]
    if given_up:
        print(f"{given_up} of {len(records)} trials were given up early: others were better by then")  # noqa: T201
    if under_way:
        print(f"{len(under_way)} of {len(records)} jobs have not ended yet")  # noqa: T201


def launch(main: Any) -> None:
    """Run a command's ``main`` and exit: 0, 1 if a job failed, 130 after Ctrl-C, 128 + signal if asked to stop."""
    preemption.listen()
    flags, own = understand(sys.argv[1:], main)
    if world.started()[0]:  # a rank that torchrun or srun started: it helps, and leaves no folder beside rank 0's
        folder = tempfile.mkdtemp(prefix="advprune_rank_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        own += [f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}", "hydra.job_logging.root.level=WARNING"]
    sys.argv[1:] = words.for_jobs([*own, *flags])
    try:
        with explained(own, main):
            main()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except preemption.Stopped as stopped:
        print(stopped, file=sys.stderr)  # noqa: T201
        sys.exit(stopped.exit_code)
    sys.exit(EXIT["code"])


if __name__ == "__main__":
    if len(sys.argv) != 2 or not records(Path(sys.argv[1])):
        sys.exit("give the folder of a grid, such as multirun/grids/DATE/TIME: python -m advprune.stages.grid FOLDER")
    tell(records(Path(sys.argv[1])), Path(sys.argv[1]))
    sys.exit(EXIT["code"])
