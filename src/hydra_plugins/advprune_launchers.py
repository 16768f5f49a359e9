"""Register ``hydra/launcher=local`` and ``slurm``; ``advprune.launch`` does the work.

Hydra imports this namespace at each start, so nothing heavy is imported here.
"""

from collections.abc import Sequence

from hydra.core.utils import JobReturn

from advprune.launch.jobs import Job
from advprune.launch.launcher import CommandLauncher as _CommandLauncher
from advprune.tracking.grid_place import GridPlace


class Local(_CommandLauncher):
    """Launch processes of this machine; see ``conf/hydra/launcher/local.yaml``."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs here if no two would run at the same time, else as processes."""
        from advprune.launch import serial

        alone = serial.stays_here(len(job_overrides), self.options)
        launch = self.launch_here if alone else super().launch
        return launch(job_overrides, initial_job_idx)

    def run(self, jobs: list[Job], grid: GridPlace) -> None:
        """Run the jobs, some at a time."""
        from advprune.launch import local

        local.run(jobs, grid, self.options)


class Slurm(_CommandLauncher):
    """Launch on a SLURM cluster; see ``conf/hydra/launcher/slurm.yaml``."""

    def run(self, jobs: list[Job], grid: GridPlace) -> None:
        """Submit the jobs as one array, and wait if asked to."""
        from advprune.launch import slurm
        from advprune.launch.order import parents_first

        slurm.run(parents_first(jobs), grid, self.options)
