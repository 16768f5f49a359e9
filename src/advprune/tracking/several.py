"""Log a job with several loggers at once; one that fails leaves the others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advprune.tracking.guarded import Guarded
from advprune.tracking.logger import Finished, Job, Logger, Row


class Several(Logger):
    """Pass everything on to each logger, in the order of their names on the command line.

    Args:
        loggers: of the job.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.loggers = [Guarded(logger) for logger in loggers]

    @property
    def has_failed(self) -> bool:
        """Whether no logger is left."""
        return all(logger.inner is None for logger in self.loggers)

    def open(self, job: Job) -> None:
        """Begin all; see ``Logger.open``."""
        for logger in self.loggers:
            logger.open(job)

    def begin(self) -> None:
        """Announce that stages will be made; see ``Logger.begin``."""
        for logger in self.loggers:
            logger.begin()

    def point(self, stage: str, row: Row) -> None:
        """Log one point of a curve; see ``Logger.point``."""
        for logger in self.loggers:
            logger.point(stage, row)

    def knows(self, row: Mapping[str, object]) -> bool:
        """Return whether all know this result; see ``Logger.knows``."""
        return bool(self.loggers) and all(logger.knows(row) for logger in self.loggers)

    def finished(self, done: Finished) -> None:
        """Log a finished stage; see ``Logger.finished``."""
        for logger in self.loggers:
            logger.finished(done)

    def result(self, row: Mapping[str, object], stages: list[Finished]) -> None:
        """Log the job's row; see ``Logger.result``."""
        for logger in self.loggers:
            logger.result(row, stages)

    def grid(self, rows: list[dict[str, Any]], files: list[Path]) -> None:
        """Log a grid's table; see ``Logger.grid``."""
        for logger in self.loggers:
            logger.grid(rows, files)

    def close(self, *, failed: bool) -> None:
        """End all; see ``Logger.close``."""
        for logger in self.loggers:
            logger.close(failed=failed)
