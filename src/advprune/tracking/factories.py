"""Make the loggers of ``conf/logger``: none asks a question, awaits a network, or fails a job."""

from typing import Literal

from advprune.tracking.csv_file import CsvFile
from advprune.tracking.logger import Logger
from advprune.tracking.tensorboard_events import TensorBoardEvents
from advprune.tracking.wandb_run import WandbRun


def csv() -> Logger:
    """Write ``metrics.csv`` in the job's folder."""
    return CsvFile()


def tensorboard() -> Logger:
    """Write TensorBoard's event files in the job's folder."""
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
    """Log to a Weights & Biases run.

    Args:
        project: where the run is sent.
        entity: W&B's account or team; None is the user's default.
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
