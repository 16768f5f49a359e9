"""Hydra's own sweeper, which looks for finished jobs before it launches the others.

Hydra loads a sweeper from this namespace alone; what it does is in
``advprune.launch.skip_finished``.
"""

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class FoundFirst(BasicSweeper):
    """The jobs, globs, ranges and groups of ``-m`` are Hydra's; only the launcher gets fewer jobs."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Put the look into the store before the launcher."""
        from advprune.launch.skip_finished import SkipFinishedLauncher

        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.launcher = SkipFinishedLauncher(self.launcher)
        self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def validate_batch_is_legal(self, batch: object) -> None:
        """Left out: each job is composed once, by the look or by the launcher, and not once more beforehand."""
