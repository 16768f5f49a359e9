"""Register ``hydra/launcher=local`` and ``slurm``; ``advprune.launch`` does the work.

Hydra imports this namespace at each start, so nothing heavy is imported here.
"""

from advprune.launch.jobs import Job
from advprune.launch.launcher import CommandLauncher as _CommandLauncher
from advprune.tracking.grid_place import GridPlace


class Local(_CommandLauncher):
    """Launch processes of this machine; see ``conf/hydra/launcher/local.yaml``."""

    def run(self, jobs: list[Job], grid: GridPlace) -> None:
        """Run the jobs, some at a time."""
        from advprune.launch import local

        local.run(jobs, grid, self.options)


class Slurm(_CommandLauncher):
    """Launch on a SLURM cluster; see ``conf/hydra/launcher/slurm.yaml``."""

    def run(self, jobs: list[Job], grid: GridPlace) -> None:
        """Submit the jobs as one array, and wait if asked to."""
        from advprune.launch import slurm

        slurm.run(jobs, grid, self.options)
