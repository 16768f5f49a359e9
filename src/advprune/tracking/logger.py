"""What a logger is told of a job, the same names for all of them, and that it may fail without the job failing.

Names: ``<stage>/<curve>`` over ``<stage>/epoch``, with the curves of ``modules/curves.py``;
``<stage>/<number>`` of a finished evaluation; ``sparsity/<stage>/<tensor>``; ``examples/<stage>``;
and, bare, the columns of the table.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, float]


#: The file in a stage's folder that holds what was measured epoch by epoch.
CURVES = "curves.json"


@dataclass(frozen=True)
class Job:
    """What is known of a job before anything is made.

    Attributes:
        id: the key of what is evaluated; the same for the same job, whenever and wherever it is
            given.
        name: for people.
        group: the grid it is of: its command's words; None for a lone job.
        kind: ``train``, ``prune`` or ``attack``.
        config: options and facts, plain values.
        tags: words to filter by.
        output: the job's own folder.
        shared: the folder of all outputs, beside the store.
        stages: the names of the stages, in the order they are made.
    """

    id: str
    name: str
    group: str | None
    kind: str
    config: dict[str, Any]
    tags: list[str]
    output: Path
    shared: Path
    stages: list[str]


@dataclass(frozen=True)
class Finished:
    """A stage that is in the store, made by this job or found.

    Attributes:
        stage: its name, see ``Job.stages``.
        folder: where it is.
        result: its ``result.json``.
    """

    stage: str
    folder: Path
    result: dict[str, Any]

    @property
    def layers(self) -> dict[str, float]:
        """The counted share of zeros in each tensor, if the stage prunes or keeps pruned."""
        return self.result.get("layers") or {}

    @property
    def examples(self) -> Path | None:
        """The picture of attacked images, if there is one."""
        path = self.folder / "examples.png"
        return path if path.exists() else None


class Logger:
    """Loggers override what they have a place for; this one keeps nothing."""

    def open(self, job: Job) -> None:
        """Begin; called once, before the others."""

    def begin(self) -> None:
        """Stages will be made: time to set up what takes seconds, before the first stage's clock runs."""

    def point(self, stage: str, row: Row) -> None:
        """One point of a stage's curves; ``row`` has ``epoch`` (a fraction within one), ``step`` and what was measured.

        Points of a stage made earlier, here or elsewhere, come first: a job that goes on tells its
            curves whole.
        """

    def knows(self, row: dict[str, Any]) -> bool:
        """Whether just this result of this job was told before, and need not be again."""
        return False

    def finished(self, found: Finished) -> None:
        """What a finished stage says of itself."""

    def result(self, row: dict[str, Any], stages: list[Finished]) -> None:
        """The job's row of the table; ``stages`` are all of its stages."""

    def grid(self, rows: list[dict[str, Any]], files: list[Path]) -> None:
        """The table of a finished grid and its files; the "job" of ``open`` is then the grid."""

    def close(self, *, failed: bool) -> None:
        """The end of the job; always called."""


def numbers(row: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a row or a result, an interval as two: ``robust_acc_low``, ``robust_acc_high``."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = value
        elif name.endswith("_interval") and value is not None:
            bare = f"{prefix}{name.removesuffix('_interval')}"
            found |= {f"{bare}_low": value[0], f"{bare}_high": value[1]}
    return found
