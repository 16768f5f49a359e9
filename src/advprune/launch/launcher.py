"""Share what our launchers do: give each job a command of its own, and record those that died.

Hydra finds a launcher in the namespace ``hydra_plugins`` only: see
``hydra_plugins/advprune_launchers.py``. Jobs that are in the store never come here:
``skip_finished.py`` has looked them up.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from advprune.errors import UserError
from advprune.launch.jobs import Job, announce, job_of, titled
from advprune.launch.work import Work
from advprune.runtime.safe_files import read_json
from advprune.tracking.grid_place import JOBS, RECORD, GridPlace


def check_launcher(grid: DictConfig, job: DictConfig, title: str) -> None:
    """Refuse a job that chooses how it is launched, as an experiment's file may: it is too late.

    Args:
        grid: the options of the command, with Hydra's own part.
        job: those of the job.
        title: of the job.

    Raises:
        UserError: with the words that give the command the same launcher.
    """
    asked, used = _launcher_of(job), _launcher_of(grid)
    if asked == used:
        return
    choice = job.hydra.runtime.choices["hydra/launcher"]
    given = [f"hydra/launcher={choice}"] if asked["_target_"] != used["_target_"] else []
    given += [
        f"hydra.launcher.{name}={value}"
        for name, value in asked.items()
        if not given and value != used.get(name)
    ]
    raise UserError(
        f"the job {title} chooses how it is launched, but one launcher runs all jobs of "
        f"a grid: give the command {' '.join(given)}, and leave it out of the experiment"
    )


def _launcher_of(config: DictConfig) -> dict[str, Any]:
    """Return the launcher's options as they were composed, with their references."""
    return OmegaConf.to_container(config.hydra.launcher, resolve=False)  # type: ignore[return-value]


class CommandLauncher(Launcher):
    """Launch jobs that ``run(jobs)`` of a subclass runs, each as a command of its own."""

    def __init__(self, **options: object) -> None:
        self.options: dict[str, Any] = OmegaConf.to_container(
            OmegaConf.create(options), resolve=True
        )  # type: ignore[assignment]
        #: What each job has to make, by its words, if somebody has looked.
        self.work: dict[tuple[str, ...], Work] = {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands over before a grid; each command finds its own task."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch_here(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs one after the other in this process, as ``hydra/launcher=basic`` does."""
        basic = BasicLauncher()
        basic.setup(hydra_context=self.context, task_function=self.task, config=self.config)
        return basic.launch(job_overrides, initial_job_idx)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs, and return their values.

        Raises:
            CompactHydraException: with a sentence for the user, if the jobs cannot be run so.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        folder = Path(self.config.hydra.sweep.dir).resolve()
        known = read_json(folder / JOBS) if (folder / JOBS).exists() else []
        grid = GridPlace(folder, max(len(known), initial_job_idx + len(job_overrides)))
        jobs = titled(
            [
                self._job(initial_job_idx + place, list(overrides))
                for place, overrides in enumerate(job_overrides)
            ],
            known,
            grid.total,
        )
        try:
            announce(jobs, folder)
            self.run(jobs, grid)
        except UserError as error:
            raise CompactHydraException(f"error: {error}") from None
        return [_returned(job) for job in jobs]

    def run(self, jobs: list[Job], grid: GridPlace) -> None:
        """Run the jobs; each ends with a record, its own or one written when it is found dead."""
        raise NotImplementedError

    def _job(self, number: int, overrides: list[str]) -> Job:
        """Describe a job, and remove the record that an earlier grid left in its folder."""
        work = self.work.get(tuple(overrides))
        folder = self._composed_folder(number, overrides) if work is None else self._folder(number)
        (folder / RECORD).unlink(missing_ok=True)
        return replace(job_of(self.config, number, overrides, folder), work=work or Work())

    def _folder(self, number: int) -> Path:
        """Return the folder of a job that was looked up: only numbered folders are."""
        return Path(str(self.config.hydra.sweep.dir), str(number)).absolute()

    def _composed_folder(self, number: int, overrides: list[str]) -> Path:
        """Compose a job, which refuses options that do not exist, and return its folder."""
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.num, config.hydra.job.id = number, str(number)
        return Path(config.hydra.sweep.dir, config.hydra.sweep.subdir).absolute()


def _returned(job: Job) -> JobReturn:
    value = job.record().get("value")
    returned = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED)
    returned.return_value = float("nan") if value is None else float(value)
    return returned
