"""Register Hydra's own sweeper with a launcher that skips finished jobs.

Hydra loads a sweeper from this namespace alone; ``advprune.launch.skip_finished`` does the work.
"""

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class FoundFirst(BasicSweeper):
    """Sweep as Hydra does over jobs, globs, ranges and groups; the launcher gets fewer jobs."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Put the look into the store before the launcher."""
        from advprune.launch.skip_finished import SkipFinishedLauncher

        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.launcher = SkipFinishedLauncher(self.launcher)
        self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    @staticmethod
    def split_arguments(
        overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return the words of each job; of ``attack.py from=``, with those of its network."""
        from advprune.config.from_store import recorded

        batches = BasicSweeper.split_arguments(overrides, max_batch_size)
        return [[recorded(job) for job in batch] for batch in batches]

    def validate_batch_is_legal(self, batch: object) -> None:
        """Check nothing: the look or the launcher composes each job, and once is enough."""
