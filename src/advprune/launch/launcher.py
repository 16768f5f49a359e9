"""Share what our launchers do: launch no job that is in the store, and record those that died.

Hydra finds a launcher in the namespace ``hydra_plugins`` only: see
``hydra_plugins/advprune_launchers.py``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

from advprune.errors import UserError
from advprune.launch.jobs import Job, announce, job_of, titled
from advprune.pipeline.job import RECORD, lookup_only


class Launching(Launcher):
    """Launch jobs that ``run(jobs)`` of a subclass runs, each as a command of its own."""

    def __init__(self, **options: Any) -> None:
        self.options: dict[str, Any] = OmegaConf.to_container(
            OmegaConf.create(options), resolve=True
        )  # type: ignore[assignment]

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Take what Hydra hands over before a grid."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Look each job up in the store, run those with work to do, and return all their values.

        Raises:
            CompactHydraException: with a sentence for the user, if the jobs cannot be run so.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        jobs = titled(
            [
                self._looked_up(initial_job_idx + place, list(words))
                for place, words in enumerate(job_overrides)
            ]
        )
        left = [job for job in jobs if not (job.folder / RECORD).exists()]
        folder = Path(self.config.hydra.sweep.dir).resolve()
        try:
            if left:
                announce(jobs, folder)
                self.run(left, folder)
        except UserError as error:
            raise CompactHydraException(f"error: {error}") from None
        return [_returned(job) for job in jobs]

    def run(self, jobs: list[Job], folder: Path) -> None:
        """Run the jobs; each ends with a record, its own or one written when it is found dead."""
        raise NotImplementedError

    def _looked_up(self, number: int, overrides: list[str]) -> Job:
        """Compose the job; one that is finished, or cannot begin, has its record afterwards."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        with lookup_only():
            looked = run_job(
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        assert looked.hydra_cfg is not None
        return job_of(
            self.config, number, overrides, Path(looked.hydra_cfg.hydra.runtime.output_dir)
        )


def _returned(job: Job) -> JobReturn:
    value = job.record().get("value")
    returned = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED)
    returned.return_value = float("nan") if value is None else float(value)
    return returned
