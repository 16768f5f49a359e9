"""This job as a trial of a search for options: it reports each epoch's accuracy, and is given up if that is bad.

``hydra/sweeper=optuna`` (``search.py``) says in the environment which trial of which study a job is.
"""

import json
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

VARIABLE = "ADVPRUNE_TRIAL"


class GivenUpError(Exception):
    """The study's pruner holds this trial to be worse than others; the message says at which epoch."""


def storage_of(place: str) -> Any:
    """The study's storage: an SQL address, or a journal file, which many machines may share."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if "://" in place:
        return optuna.storages.RDBStorage(place)
    return optuna.storages.JournalStorage(JournalFileBackend(place))


def described(storage: str, study: str, trial: int) -> str:
    """What ``VARIABLE`` is set to for a trial."""
    return json.dumps([storage, study, trial])


@cache
def _trial(text: str) -> "optuna.trial.Trial":
    import optuna

    place, study, number = json.loads(text)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.trial.Trial(optuna.load_study(study_name=study, storage=storage_of(place)), number)
