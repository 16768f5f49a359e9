"""The members of ``conf/logger``. None asks a question, waits for a network, or lets a job fail."""

from typing import Literal

from advprune.tracking.csv_file import CsvFile
from advprune.tracking.logger import Logger
from advprune.tracking.tensorboard_events import TensorBoardEvents
from advprune.tracking.wandb_run import WandbRun


def csv() -> Logger:
    """``metrics.csv`` in the job's folder."""
    return CsvFile()


def tensorboard() -> Logger:
    """TensorBoard's event files in the job's folder."""
    return TensorBoardEvents()


def wandb(
    *,
    project: str = "advprune",
    entity: str | None = None,
    mode: Literal["online", "offline", "disabled"] | None = None,
    group: str | None = None,
    folder: str | None = None,
    checkpoints: bool = False,
) -> Logger:
    """A W&B run.

    Args:
        project, entity: where it is sent.
        mode: None is online if there is an API key and the host answers, else offline.
        group: None is the grid's own words.
        folder: where its files wait, in a folder ``wandb``; None is beside the store.
        checkpoints: send the final network as an artifact.
    """
    return WandbRun(
        project=project,
        entity=entity,
        mode=mode,
        group=group,
        folder=folder,
        checkpoints=checkpoints,
    )
