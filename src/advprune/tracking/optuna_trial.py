"""Take part in a search for options as one trial, which is given up if its accuracy is bad.

``hydra/sweeper=optuna`` (``launch/search.py``) says in the environment which trial of which study a
job is.
"""

import json
import warnings
from pathlib import Path
from typing import Any

from advprune.errors import UserError

VARIABLE = "ADVPRUNE_TRIAL"
TARGET = "_target_"


def storage_of(place: str) -> Any:
    """Return a study's storage.

    Args:
        place: an SQL address, or the path of a journal file, which many machines may share.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if "://" in place:
        return optuna.storages.RDBStorage(place)
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(place))


def described(storage: str, study: str, trial: int, pruner: dict[str, object]) -> str:
    """Return what ``VARIABLE`` is set to for a trial.

    Args:
        storage: of the study, see ``storage_of``.
        study: its name.
        trial: the storage's number of the trial.
        pruner: the node of the study's pruner.
    """
    return json.dumps([storage, study, trial, pruner])


def pruner_of(node: dict[str, object]) -> Any:
    """Return one of Optuna's own pruners.

    The node was read from a job's environment, and may name nothing else.

    Raises:
        UserError: if it does.
    """
    import optuna

    module, _, name = str(node[TARGET]).rpartition(".")
    if module != "optuna.pruners" or name not in optuna.pruners.__all__:
        names = ", ".join(
            n for n in optuna.pruners.__all__ if n.endswith("Pruner") and n != "BasePruner"
        )
        raise UserError(
            f"hydra.sweeper.pruner={node[TARGET]} is none of Optuna's: give optuna.pruners. "
            f"and {names}"
        )
    arguments = {
        option: pruner_of(value) if isinstance(value, dict) else value
        for option, value in node.items()
        if option != TARGET
    }
    return getattr(optuna.pruners, name)(**arguments)


class Trial:
    """Represent the trial that this process's environment names."""

    def __init__(self, text: str) -> None:
        import optuna

        storage, study, number, pruner = json.loads(text)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        whole = optuna.load_study(
            study_name=study, storage=storage_of(storage), pruner=pruner_of(pruner)
        )
        self.trial = optuna.trial.Trial(whole, number)

    def report(self, value: float, epoch: int) -> bool:
        """Report an epoch's accuracy to the study; return whether the trial is to be given up."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a step that was reported before the job was killed
            self.trial.report(value, epoch)
        return bool(self.trial.should_prune())
