"""Say what a job has to make, as it was when its grid began."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from advprune.distributed.environment import SMALL_IMAGE
from advprune.pipeline.job import Lookup


@dataclass(frozen=True)
class MissingStage:
    """Describe a stage that is not in the store.

    Attributes:
        folder: where it will be.
        needs: folders of all the stages that it is made from.
    """

    folder: Path
    needs: frozenset[Path] = frozenset()


@dataclass(frozen=True)
class Work:
    """Describe what a job has to make.

    Attributes:
        missing: the stages, in the order in which they are made; none if nothing is known.
        small: whether it takes no more memory than the default job.
    """

    missing: tuple[MissingStage, ...] = ()
    small: bool = True


def work_of(lookup: Lookup, options: DictConfig) -> Work:
    """Return the work of a job that was looked up and is not finished.

    Args:
        lookup: what it lacks.
        options: of the job.
    """
    size: Any = OmegaConf.select(options, "dataset.image_size")
    return Work(
        tuple(
            MissingStage(
                lookup.folder(stage), frozenset(lookup.folder(each) for each in stage.line[:-1])
            )
            for stage in lookup.missing
        ),
        isinstance(size, int) and size <= SMALL_IMAGE,
    )
