"""Define what a logger receives of a job, and the names under which all loggers show it.

Names: ``<stage>/<curve>`` over ``<stage>/epoch``, with the curves of ``modules/curves.py``;
``<stage>/<number>`` of a finished evaluation; ``sparsity/<stage>/<tensor>``; ``examples/<stage>``;
and, bare, the columns of the table. ``Loggers`` are all of a job's: one may fail without the job
failing. ``CsvFile`` is the default one.
"""

import csv
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from advprune.errors import UserError

log = logging.getLogger(__name__)
Row = dict[str, float]
#: What ``CsvFile`` writes, in the job's folder.
FILE = "metrics.csv"
#: The file in a stage's folder that holds what was measured epoch by epoch.
CURVES = "curves.json"


@dataclass(frozen=True)
class Job:
    """Describe a job before anything is made.

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
    """Describe a stage that is in the store, made by this job or found.

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
        """Return the counted share of zeros in each tensor; empty if nothing is pruned."""
        return self.result.get("layers") or {}

    @property
    def examples(self) -> Path | None:
        """Return the picture of attacked images, if there is one."""
        path = self.folder / "examples.png"
        return path if path.exists() else None


class Logger:
    """Keep nothing; loggers override the events that they have a place for.

    Attributes:
        takes_grids: whether a grid's table is logged too; other loggers' folders hold it already.
    """

    takes_grids: bool = False

    def open(self, job: Job) -> None:
        """Begin; called once, before the others."""

    def begin(self) -> None:
        """Set up what takes seconds: stages will be made, and no stage's clock runs yet."""

    def point(self, stage: str, row: Row) -> None:
        """Log one point of a stage's curves.

        Points of a stage made earlier, here or elsewhere, come first: a job that goes on logs its
        curves whole.

        Args:
            stage: its name, see ``Job.stages``.
            row: ``epoch`` (a fraction within one), ``step`` and what was measured.
        """

    def knows(self, row: Mapping[str, object]) -> bool:
        """Return whether exactly this result of this job was logged before."""
        return False

    def finished(self, done: Finished) -> None:
        """Log what a finished stage says of itself."""

    def result(self, row: Mapping[str, object], stages: list[Finished]) -> None:
        """Log the job's row of the table; ``stages`` are all of its stages."""

    def grid(self, rows: list[dict[str, Any]], files: list[Path]) -> None:
        """Log a finished grid's table and files; ``open`` was called with the grid as its job."""

    def close(self, *, failed: bool) -> None:
        """End; always called."""


class Loggers(Logger):
    """Pass everything on to each logger of a job, until it first fails: no job is lost with one.

    Args:
        loggers: in the order in which they are called.

    Attributes:
        working: those that have not failed.

    Raises:
        UserError: of ``open`` alone: a logger that cannot be had is reported before anything is
            made.
    """

    def __init__(self, loggers: Iterable[Logger]) -> None:
        self.working = list(loggers)
        self._logs = bool(self.working)

    def open(self, job: Job) -> None:
        """Begin all; see ``Logger.open``."""
        self._call("open", job)

    def begin(self) -> None:
        """Announce that stages will be made; see ``Logger.begin``."""
        self._call("begin")

    def point(self, stage: str, row: Row) -> None:
        """Log one point of a curve; see ``Logger.point``."""
        self._call("point", stage, row)

    def knows(self, row: Mapping[str, object]) -> bool:
        """Return whether all that still work know this result; see ``Logger.knows``."""
        return self._logs and all(self._call("knows", row))

    def finished(self, done: Finished) -> None:
        """Log a finished stage; see ``Logger.finished``."""
        self._call("finished", done)

    def result(self, row: Mapping[str, object], stages: list[Finished]) -> None:
        """Log the job's row; see ``Logger.result``."""
        self._call("result", row, stages)

    def grid(self, rows: list[dict[str, Any]], files: list[Path]) -> None:
        """Log a grid's table; see ``Logger.grid``."""
        self._call("grid", rows, files)

    def close(self, *, failed: bool) -> None:
        """End all; see ``Logger.close``."""
        self._call("close", failed=failed)

    def _call(self, event: str, *args: object, **options: object) -> list[object]:
        """Return what each logger answers; None of one that fails, which is not called again."""
        return [self._answer(logger, event, args, options) for logger in list(self.working)]

    def _answer(
        self, logger: Logger, event: str, args: tuple[object, ...], options: dict[str, object]
    ) -> object:
        try:
            return getattr(logger, event)(*args, **options)
        except Exception as error:  # whatever a library, a disk or a network does
            if event == "open" and isinstance(error, UserError):
                raise
            reason = str(error).strip().splitlines() or [type(error).__name__]
            log.warning(
                "logger %s failed (%s: %s); the job goes on without it, and the same command logs "
                "it whole",
                type(logger).__name__,
                event,
                reason[0],
            )
            log.debug("logger %s", type(logger).__name__, exc_info=True)
            self.working = [other for other in self.working if other is not logger]
            return None


def numbers(row: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a row or a result, an interval as two: ``…_low`` and ``…_high``.

    Args:
        row: of the table, or a ``result.json``.
        prefix: put before each name.
    """
    values: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            values[f"{prefix}{name}"] = value
        elif name.endswith("_interval") and isinstance(value, Sequence):
            bare = f"{prefix}{name.removesuffix('_interval')}"
            values |= {f"{bare}_low": value[0], f"{bare}_high": value[1]}
    return values


class CsvFile(Logger):
    """Write ``metrics.csv`` with the columns ``name, epoch, step, value``, one line a number.

    A result leaves epoch and step empty.

    Stages have different curves: ``pandas.read_csv(…).pivot(…)`` makes columns of them.
    """

    def __init__(self) -> None:
        self.file: TextIO | None = None
        self.writer: Any = None

    def open(self, job: Job) -> None:
        """Begin the file anew: all of the job's curves follow, those of a killed attempt too."""
        job.output.mkdir(parents=True, exist_ok=True)
        (job.output / FILE).unlink(missing_ok=True)  # a link in its place is not written through
        self.file = (job.output / FILE).open("x", newline="")
        self.writer = csv.writer(self.file)
        self._write([("name", "epoch", "step", "value")])

    def point(self, stage: str, row: Row) -> None:
        """Write a line for each number."""
        at = (row["epoch"], row["step"])
        self._write(
            (f"{stage}/{name}", *at, value)
            for name, value in row.items()
            if name not in ("epoch", "step")
        )

    def finished(self, done: Finished) -> None:
        """Write per-layer sparsity."""
        self._write(
            (f"sparsity/{done.stage}/{name}", "", "", share) for name, share in done.layers.items()
        )

    def result(self, row: Mapping[str, object], stages: list[Finished]) -> None:
        """Write the numbers of the table."""
        self._write((name, "", "", value) for name, value in numbers(row).items())

    def close(self, *, failed: bool) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def _write(self, lines: Iterable[Sequence[object]]) -> None:
        assert self.file is not None
        self.writer.writerows(lines)
        self.file.flush()
