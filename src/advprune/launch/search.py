"""Search for options by Optuna's ask and tell; killed, the same command goes on with the study.

It works around any launcher. hydra-optuna-sweeper is not used: it holds Optuna below version 3, and
cannot resume a study in a file.
"""

import hashlib
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from hydra.utils import get_class
from optuna.distributions import (
    BaseDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from advprune.config.groups import build
from advprune.errors import UserError
from advprune.launch.grid_display import say
from advprune.launch.jobs import quoted
from advprune.runtime.safe_files import write_atomically
from advprune.tracking.grid_place import RECORD
from advprune.tracking.optuna_trial import VARIABLE, described, pruner_of, storage_of


class Search:
    """Run one study: a folder of jobs, one a trial, and what Optuna knows of them.

    Args:
        folder: of the study; ``folder/<trial>/job.json`` is written by each job.
        fixed: the words that all trials share.
        searched: the space, by option.
        options: of ``conf/hydra/sweeper/optuna.yaml``.
    """

    def __init__(
        self,
        folder: Path,
        fixed: list[str],
        searched: dict[str, BaseDistribution],
        options: dict[str, Any],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.fixed, self.searched, self.options = folder, fixed, searched, options
        self.name, self.storage = (
            folder.name,
            options["storage"] or str(folder.resolve() / "journal.log"),
        )
        self.study = optuna.create_study(
            storage=storage_of(self.storage),
            study_name=self.name,
            direction="maximize",
            load_if_exists=True,
            pruner=pruner_of(options["pruner"]),
        )

    def batches(self) -> Iterator[list[FrozenTrial]]:
        """Yield trials to run at the same time, up to the number of trials asked for.

        Those that never ended come first, then new ones.
        """
        at_once = int(self.options["at_once"])
        yield from _in_a_row(
            [t for t in self.study.get_trials() if t.state == TrialState.RUNNING], at_once
        )
        while (
            left := int(self.options["trials"]) - len(self.study.get_trials(deepcopy=False))
        ) > 0:
            yield [self._new_trial() for _ in range(min(left, at_once))]

    def _new_trial(self) -> FrozenTrial:
        """Ask for a new trial.

        What it tries depends on the trials before it, and not on how often the search was killed.
        """
        number = len(self.study.get_trials(deepcopy=False))
        node = self.options["sampler"]
        seeded = "seed" in inspect.signature(get_class(node["_target_"])).parameters
        self.study.sampler = build(
            node, **({"seed": 10_000 * int(self.options["seed"]) + number} if seeded else {})
        )
        number_of_trial = self.study.ask(self.searched).number
        return self.study.get_trials()[number_of_trial]

    def words(self, trial: FrozenTrial) -> list[str]:
        """Return the overrides of a trial's job."""
        trial_variable = described(self.storage, self.name, trial._trial_id, self.options["pruner"])
        tried = [f"{name}={value}" for name, value in trial.params.items()]
        places = [
            f"hydra.sweep.dir={quoted(str(self.folder))}",
            f"++hydra.job.env_set.{VARIABLE}={quoted(trial_variable)}",
        ]
        return [*self.fixed, *tried, *places]

    def tell(self, trial: FrozenTrial, value: float) -> None:
        """Tell the study how a trial ended; one that failed stays open, for the next attempt."""
        record = json.loads((self.folder / str(trial.number) / RECORD).read_text())
        if value == value:
            self.study.tell(trial.number, value)
        elif "given_up" in record:
            self.study.tell(trial.number, state=TrialState.PRUNED)
        else:
            say(f"trial {trial.number} failed; the same command tries it again")

    def conclude(self) -> float | None:
        """Print which trial was best, write its words into ``best.json``, and return its value."""
        ended = [trial for trial in self.study.get_trials() if trial.state == TrialState.COMPLETE]
        if not ended:
            return None
        best = self.study.best_trial
        words = [*self.fixed, *(f"{name}={value}" for name, value in best.params.items())]
        write_atomically(
            self.folder / "best.json",
            json.dumps({"trial": best.number, "value": best.value, "words": words}, indent=1),
        )
        say(
            f"best of {len(ended)} finished trials: {best.value:.4f} on validation images, trial "
            f"{best.number}: {' '.join(f'{name}={value}' for name, value in best.params.items())}"
        )
        return best.value


@contextmanager
def hold_study(folder: Path) -> Iterator[None]:
    """Hold the study alone: then an open trial is one whose search was killed.

    Raises:
        UserError: if another process holds it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(
            f"another command is at this search, in {folder}: wait for it, or give a study of your "
            "own: hydra.sweeper.study=NAME"
        ) from None


def _in_a_row(trials: list[FrozenTrial], most: int) -> Iterator[list[FrozenTrial]]:
    """Cut into batches of consecutive numbers, as a launcher numbers jobs, of at most ``most``."""
    batch: list[FrozenTrial] = []
    for trial in trials:
        if batch and (trial.number != batch[-1].number + 1 or len(batch) == most):
            yield batch
            batch = []
        batch.append(trial)
    if batch:
        yield batch


def study_name(name: str | None, command: str, words: list[str]) -> str:
    """Return the study's name; by default one that is the same for the same command and search."""
    return name or hashlib.sha256(json.dumps([command, sorted(words)]).encode()).hexdigest()[:12]
