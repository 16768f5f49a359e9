"""Skip the finished jobs of a grid: their rows come from the store, and the others are launched.

Jobs of which it is clear without a launch that they fail are skipped too: their sentence is in the
table at once. So a grid of a thousand finished jobs takes seconds, also where each job would be
sent to a cluster, and of one that failed in a few jobs only these are sent again.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from advprune.config.compose import Composer
from advprune.config.fingerprints import fingerprint_cache
from advprune.errors import UserError
from advprune.launch.launcher import CommandLauncher, check_launcher
from advprune.launch.work import Work, work_of
from advprune.pipeline.job import lookup_only
from advprune.runtime.safe_files import read_json, write_atomically
from advprune.tracking.grid_place import JOBS, RECORD, differing, grid_words
from advprune.tracking.stage_times import write_stages

#: The only numbering of job folders that is understood here; with another one, all jobs are
#: launched.
SUBDIR = "${hydra.job.num}"


class SkipFinishedLauncher(Launcher):
    """Take from another launcher the jobs that need no launching.

    Args:
        launcher: the one that ``hydra/launcher`` names, set up already.
    """

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        self.jobs: list[list[str]] = []
        self.work: dict[tuple[str, ...], Work] = {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands over to every launcher."""
        self.task, self.config = task_function, config
        self.loader = hydra_context.config_loader

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Return the results of all jobs in their order; finished ones get the first numbers."""
        setup_globals()
        folder = Path(str(self.config.hydra.sweep.dir))
        self._write_jobs(folder, job_overrides)
        composer, returns = (
            Composer(self.loader, self.config, job_overrides),
            dict[int, JobReturn](),
        )
        try:
            self._check_folders(len(job_overrides))
            with fingerprint_cache():
                for place, overrides in enumerate(job_overrides):
                    result = self._look(
                        composer, folder, list(overrides), initial_job_idx + len(returns)
                    )
                    if result is not None:
                        returns[place] = result
        except UserError as error:  # of a launcher's exceptions Hydra prints the traceback
            sys.exit(f"error: {error}")
        rest = [place for place in range(len(job_overrides)) if place not in returns]
        if rest:
            self._hand_over(folder)
            launched = self.launcher.launch(
                [job_overrides[place] for place in rest], initial_job_idx + len(returns)
            )
            returns |= zip(rest, launched, strict=True)
        return [returns[place] for place in sorted(returns)]

    def _hand_over(self, folder: Path) -> None:
        """Tell the launcher, and the jobs that say how long the grid may take, what is missing."""
        if isinstance(self.launcher, CommandLauncher):
            self.launcher.work = self.work
        write_stages(
            folder,
            {words: [each.folder for each in work.missing] for words, work in self.work.items()},
        )

    def _write_jobs(self, folder: Path, job_overrides: Sequence[Sequence[str]]) -> None:
        self.jobs += [list(overrides) for overrides in job_overrides]
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / JOBS, json.dumps(self.jobs, indent=1))

    def _check_folders(self, jobs: int) -> None:
        """Refuse several jobs in one folder, where each would overwrite the record of the last.

        Raises:
            UserError: naming the option.
        """
        subdir = str(self._subdir())
        if jobs > 1 and "${" not in subdir:
            raise UserError(
                f"hydra.sweep.subdir={subdir} is one folder for all {jobs} jobs: leave it out, or "
                "name the job in it, as 'hydra.sweep.subdir=${hydra.job.num}' does"
            )

    def _subdir(self) -> Any:
        return OmegaConf.to_container(self.config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[call-overload,index]

    def _numbered(self) -> bool:
        return bool(self._subdir() == SUBDIR)

    def _look(
        self, composer: Composer, folder: Path, overrides: list[str], number: int
    ) -> JobReturn | None:
        """Return the job's result if it has nothing to make; None if it must be launched.

        Composing it also refuses, at once, options that do not exist.
        """
        options, whole = composer(overrides)
        check_launcher(self.config, whole, differing(overrides, grid_words(folder)[1]))
        if not self._numbered():
            return None
        output = (folder / str(number)).absolute()
        (output / RECORD).unlink(missing_ok=True)  # of an earlier grid in the same folder
        before = HydraConfig.instance().cfg
        with open_dict(whole):
            whole.hydra.job.num, whole.hydra.job.id = number, str(number)
            whole.hydra.runtime.output_dir = str(output)
        HydraConfig.instance().cfg = whole  # type: ignore[assignment]
        try:
            with lookup_only() as lookup:
                value = self.task(options)
        finally:
            HydraConfig.instance().cfg = before
        if not (output / RECORD).exists():
            self.work[tuple(overrides)] = work_of(lookup, options)
            return None
        return JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=value)


def grid_order(folder: Path) -> Callable[[dict[str, Any]], int]:
    """Return the sort key of a grid's records: their place in its list of jobs.

    Where there is no list it is their own number.
    """
    path = folder / JOBS
    if not path.exists():
        return lambda record: int(record["number"])
    places = {tuple(job): place for place, job in reversed(list(enumerate(read_json(path))))}
    return lambda record: places.get(
        tuple(record["overrides"]), len(places) + int(record["number"])
    )
