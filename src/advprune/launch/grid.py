"""Print the table of all jobs at the end of a command, and set its exit code.

Hydra calls this, whatever launched the jobs. ``python -m advprune.launch.grid FOLDER`` prints the
table of a grid again, or of one whose jobs are still under way.
"""

import atexit
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from advprune.config.command_line import explained, understand
from advprune.config.overrides import choose_custom, defer_group_overrides
from advprune.distributed import environment
from advprune.errors import UserError
from advprune.launch.grid_log import log_grid
from advprune.launch.refresh_report import refresh_report
from advprune.launch.run_once import ONE_JOB, run_once
from advprune.launch.skip_finished import grid_order
from advprune.report.data.failures import cause
from advprune.report.table.terminal import show
from advprune.runtime import preemption
from advprune.runtime.safe_files import read_json
from advprune.tracking.grid_place import JOBS, LAUNCHED, RECORD

log = logging.getLogger(__name__)
#: Hydra calls ``Grid`` and drops what it returns, so the process's exit code is kept here.
EXIT = {"code": 0}


class Grid(Callback):
    """Read each job's ``job.json``, and print the table once, at the end of a run or of a grid."""

    def on_run_end(self, config: DictConfig, **kwargs: object) -> None:
        """Print the table of a single job."""
        if environment.launched_world()[0]:
            return
        path = Path(config.hydra.runtime.output_dir) / RECORD
        with report_failure(path.parent):
            report_jobs([read_json(path)] if path.exists() else [], path.parent)

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        """Print the table of a grid, log it, and refresh the report."""
        if environment.launched_world()[0]:
            return
        folder = Path(config.hydra.sweep.dir)
        with report_failure(folder):
            jobs = records(folder)
            report_jobs(jobs, folder)
            _count(jobs, folder)
            logger = OmegaConf.to_container(config.logger, resolve=True)
            assert isinstance(logger, dict)
            options = {str(name): value for name, value in logger.items()}
            log_grid(jobs, folder, options, Path(config.store).expanduser().parent)
            if config.get("report", True):
                refresh_report(Path(config.store).expanduser(), folder / "table.json")


@contextmanager
def report_failure(folder: Path) -> Iterator[None]:
    """Inside, turn whatever is raised into one sentence on stderr and exit code 1.

    Hydra swallows what a callback raises, and exits with 0.

    Args:
        folder: where the table was to be written.
    """
    try:
        yield
    except Exception as error:
        EXIT["code"] = 1
        print(f"error: {_sentence(error, folder)}", file=sys.stderr)  # noqa: T201
        log.debug("the end of the command", exc_info=True)


def _sentence(error: Exception, folder: Path) -> str:
    """Describe what went wrong at the end of a command, and that its results are safe."""
    if isinstance(error, OSError):
        what = f"{error.filename or folder} could not be written ({error.strerror})"
    elif isinstance(error, UserError):
        return str(error)
    else:
        what = (
            f"the table in {folder} could not be made ({type(error).__name__}: {cause(str(error))})"
        )
    return f"{what}; the results are in the store, and the same command tells them again"


def _count(jobs: list[dict[str, Any]], folder: Path) -> None:
    """Fail if jobs left no record: a table with fewer rows than jobs must not look whole."""
    path = folder / JOBS
    expected = len(read_json(path)) if path.exists() else 0
    if len(jobs) < expected:
        EXIT["code"] = 1
        lost = (
            f"{expected - len(jobs)} of {expected} jobs left no {RECORD} under {folder}: they are "
            "not in the table"
        )
        print(  # noqa: T201
            f"error: {lost}; leave hydra.sweep.subdir out, or give each job a folder of its own",
            file=sys.stderr,
        )


def records(folder: Path) -> list[dict[str, Any]]:
    """Return what each job of the grid in ``folder`` wrote, in the grid's order.

    Of jobs that have not begun it is what the launcher wrote.
    """
    launched = folder / LAUNCHED
    waiting = read_json(launched) if launched.exists() else []
    begun = [read_json(path) for path in sorted(folder.rglob(RECORD))]
    by_number = {record["number"]: record for record in [*waiting, *begun]}
    return sorted(by_number.values(), key=grid_order(folder))


def report_jobs(records: list[dict[str, Any]], folder: Path) -> None:
    """Print the table, and how many jobs are not in it; set the exit code."""
    if not records or any("failed" in record for record in records):
        EXIT["code"] = 1
    if records:
        show(records, folder)
    given_up = sum("given_up" in record for record in records)
    under_way = [record for record in records if not record.keys() & {"row", "failed", "given_up"}]
    if given_up:
        print(  # noqa: T201
            f"{given_up} of {len(records)} trials were given up early: others were better by then"
        )
    if under_way:
        print(f"{len(under_way)} of {len(records)} jobs have not ended yet")  # noqa: T201


def launch(main: Callable[..., object]) -> None:
    """Run a command's ``main`` and exit.

    The code is 0, 1 if a job failed, 130 after Ctrl-C, and 128 + signal if asked to stop.
    """
    preemption.listen()
    sys.path.append(str(Path.cwd()))  # so that model._target_=my.module.Net finds the user's module
    flags, words = understand(sys.argv[1:], main)
    # a rank that torchrun or srun started: it helps, and leaves no folder beside rank 0's
    rank, size = environment.launched_world()
    if size > 1:
        preemption.interrupt_once()
    if rank:
        folder = tempfile.mkdtemp(prefix="advprune_rank_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        words += [
            f"hydra.run.dir={folder}",
            f"hydra.sweep.dir={folder}",
            "hydra.job_logging.root.level=WARNING",
        ]
    if any("._target_=" in word for word in words):  # of a class of the user's own
        words = choose_custom(words)
    grid = {"-m", "--multirun"} & set(flags)
    sys.argv[1:] = [*(defer_group_overrides(words) if grid else words), *flags]
    try:
        with explained(words, main):
            if ONE_JOB in words:
                run_once(main, sys.argv[1:])
            else:
                main()
    except KeyboardInterrupt:
        preemption.stop_listening()
        print("interrupted; the same command goes on where it was", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except preemption.Stopped as stopped:
        preemption.stop_listening()
        print(stopped, file=sys.stderr)  # noqa: T201
        sys.exit(stopped.exit_code)
    sys.exit(EXIT["code"])


if __name__ == "__main__":
    if len(sys.argv) != 2 or not records(Path(sys.argv[1])):
        sys.exit(
            "give the folder of a grid, such as multirun/grids/DATE/TIME: python -m "
            "advprune.launch.grid FOLDER"
        )
    report_jobs(records(Path(sys.argv[1])), Path(sys.argv[1]))
    sys.exit(EXIT["code"])
