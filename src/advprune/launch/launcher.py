"""What our launchers have in common: jobs that are in the store are not launched, and those that died are written down.

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
    """A launcher whose ``run(jobs)`` runs each job as a command of its own."""

    def __init__(self, **options: Any) -> None:
        self.options: dict[str, Any] = OmegaConf.to_container(
            OmegaConf.create(options), resolve=True
        )  # type: ignore[assignment]

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """What Hydra hands over before a grid."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Look each job up in the store, run those that have work to do, and give all their values.

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
        """Run the jobs; each ends with a record, its own or the one written when it is found dead."""
        raise NotImplementedError

    def _looked_up(self, number: int, overrides: list[str]) -> Job:
        """The job; if all its stages are in the store, or its options are wrong, its record is there already."""
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
