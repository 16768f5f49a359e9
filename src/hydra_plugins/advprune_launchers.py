"""``hydra/launcher=local`` and ``slurm``: Hydra looks for launchers in this namespace, at each start.

So nothing heavy is imported here; ``advprune.stages.launch`` does the work.
"""

from pathlib import Path

from advprune.launch.jobs import Job
from advprune.launch.launcher import Launching as _Launching


class Local(_Launching):
    """Processes of this machine; see ``conf/hydra/launcher/local.yaml``."""

    def run(self, jobs: list[Job], folder: Path) -> None:
        """Run them, some at a time."""
        from advprune.launch import local

        local.run(jobs, self.options)


class Slurm(_Launching):
    """A SLURM cluster; see ``conf/hydra/launcher/slurm.yaml``."""

    def run(self, jobs: list[Job], folder: Path) -> None:
        """Submit them as one array, and wait if asked to."""
        from advprune.launch import slurm

        slurm.run(jobs, folder, self.options)
