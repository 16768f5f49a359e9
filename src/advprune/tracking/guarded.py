"""Wrap a logger so that it cannot fail a job, and that a job's other processes can call it."""

import logging
from pathlib import Path
from typing import Any

from advprune.errors import UserError
from advprune.tracking.logger import Finished, Job, Logger, Row
from advprune.tracking.relay import Switchboard

log = logging.getLogger(__name__)


class Guarded(Logger):
    """Pass calls on to another logger until it first fails: a job is not lost with its curves.

    Pickled into another process, it arrives there as a relay that calls back to this one.

    Raises:
        UserError: of ``open`` alone: a logger that cannot be had is reported before anything is
            made.
    """

    def __init__(self, inner: Logger) -> None:
        self.inner: Logger | None = inner
        self._switchboard: Any = None

    def __reduce__(self) -> Any:
        """How it is pickled."""
        self._switchboard = self._switchboard or Switchboard(self)
        return Guarded, (self._switchboard.relay(),)

    def open(self, job: Job) -> None:
        """Begin; see ``Logger.open``."""
        self._tell("open", job)

    def begin(self) -> None:
        """Announce that stages will be made; see ``Logger.begin``."""
        self._tell("begin")

    def point(self, stage: str, row: Row) -> None:
        """Log one point of a curve; see ``Logger.point``."""
        self._tell("point", stage, row)

    def knows(self, row: dict[str, Any]) -> bool:
        """Return whether this result is logged already; True once the logger has failed."""
        return self.inner is None or bool(self._tell("knows", row))

    def finished(self, done: Finished) -> None:
        """Log a finished stage; see ``Logger.finished``."""
        self._tell("finished", done)

    def result(self, row: dict[str, Any], stages: list[Finished]) -> None:
        """Log the job's row; see ``Logger.result``."""
        self._tell("result", row, stages)

    def grid(self, rows: list[dict[str, Any]], files: list[Path]) -> None:
        """Log a grid's table; see ``Logger.grid``."""
        self._tell("grid", rows, files)

    def close(self, *, failed: bool) -> None:
        """End the logger, and stop taking calls of other processes."""
        self._tell("close", failed=failed)
        if self._switchboard is not None:
            self._switchboard.close()

    def _tell(self, event: str, *args: Any, **options: Any) -> Any:
        if self.inner is None:
            return None
        try:
            return getattr(self.inner, event)(*args, **options)
        except UserError:
            if event == "open":
                raise
            self._leave(event)
        except Exception:  # noqa: BLE001 - whatever a library, a disk or a network does, the job goes on
            self._leave(event)
        return None

    def _leave(self, event: str) -> None:
        import sys

        error, name = sys.exc_info()[1], type(self.inner).__name__
        reason = str(error).strip().splitlines() or [type(error).__name__]
        log.warning(
            "logger %s failed (%s: %s); the job goes on without it, and the same command logs it "
            "whole",
            name,
            event,
            reason[0],
        )
        log.debug("logger %s", name, exc_info=True)
        self.inner = None
