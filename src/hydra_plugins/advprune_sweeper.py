"""Register ``hydra/sweeper=optuna``; ``advprune.launch.search`` does the work.

Hydra imports this namespace at each start, so Optuna is imported later.
"""

import math
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from advprune.errors import UserError


class Optuna(Sweeper):
    """Search options for the best validation accuracy; see ``conf/hydra/sweeper/optuna.yaml``."""

    def __init__(self, **options: Any) -> None:
        self.options: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(options))  # type: ignore[assignment]

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Take what Hydra hands over."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> float:
        """Run the search, or what is left of it, and return the best value found.

        Raises:
            CompactHydraException: with a sentence for the user.
        """
        try:
            return self._search(arguments)
        except UserError as error:
            raise CompactHydraException(f"error: {error}") from None

    def _search(self, arguments: list[str]) -> float:
        try:
            from advprune.launch import search, search_space
        except ModuleNotFoundError:
            raise UserError(
                "hydra/sweeper=optuna needs a package that is not installed: "
                'pip install "advprune[optuna]"'
            ) from None
        if self.config.hydra.launcher.get("wait") is False:
            raise UserError(
                "hydra.launcher.wait=false cannot be searched with: the next trial waits for the "
                "last one"
            )
        parsed = OverridesParser.create(
            config_loader=self.hydra_context.config_loader
        ).parse_overrides(arguments)
        searched = search_space.space(parsed)
        fixed = [
            str(override.input_line) for override in parsed if not override.is_sweep_override()
        ]
        name = search.study_name(self.options["study"], str(self.config.hydra.job.name), arguments)
        folder = Path(self.options["folder"], name)
        with read_write(self.config.hydra.sweep), open_dict(self.config.hydra.sweep):
            # the table at the end is of this folder, of all trials so far
            self.config.hydra.sweep.dir = str(folder)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=self.task_function, config=self.config
        )
        with search.hold_study(folder):
            study = search.Search(folder, fixed, searched, self.options)
            for batch in study.batches():
                returned = launcher.launch(
                    [study.words(trial) for trial in batch], initial_job_idx=batch[0].number
                )
                for trial, job in zip(batch, returned, strict=True):
                    study.tell(trial, float(job.return_value))
            return study.conclude() or math.nan
