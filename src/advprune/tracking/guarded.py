"""Wrap a logger so that it cannot fail a job, and that a job's other processes can call it."""

import logging
import os
import threading
from collections.abc import Mapping
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from advprune.errors import UserError
from advprune.tracking.logger import Finished, Job, Logger, Row

log = logging.getLogger(__name__)
#: Seconds until a job that answers nothing counts as stuck.
PATIENCE = 1800.0


class Guarded(Logger):
    """Pass calls on to another logger until it first fails: a job is not lost with its curves.

    Raises:
        UserError: of ``open`` alone: a logger that cannot be had is reported before anything is
            made.
    """

    def __init__(self, inner: Logger) -> None:
        self.inner: Logger | None = inner
        self._switchboard: Any = None

    def for_ranks(self) -> Logger:
        """Return a logger that can be pickled into another process, from where it calls this one.

        This process takes such calls from then on, until ``close``.
        """
        self._switchboard = self._switchboard or Switchboard(self)
        return Guarded(self._switchboard.relay())

    def open(self, job: Job) -> None:
        """Begin; see ``Logger.open``."""
        self._tell("open", job)

    def begin(self) -> None:
        """Announce that stages will be made; see ``Logger.begin``."""
        self._tell("begin")

    def point(self, stage: str, row: Row) -> None:
        """Log one point of a curve; see ``Logger.point``."""
        self._tell("point", stage, row)

    def knows(self, row: Mapping[str, object]) -> bool:
        """Return whether this result is logged already; True once the logger has failed."""
        return self.inner is None or bool(self._tell("knows", row))

    def finished(self, done: Finished) -> None:
        """Log a finished stage; see ``Logger.finished``."""
        self._tell("finished", done)

    def result(self, row: Mapping[str, object], stages: list[Finished]) -> None:
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

    def _tell(self, event: str, *args: object, **options: object) -> Any:
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


class Relay(Logger):
    """Forward calls to another process's logger; each is answered, so that their order is kept.

    Args:
        address: of a ``Switchboard``.
        key: its authentication key.
    """

    def __init__(self, address: str | tuple[str, int], key: bytes) -> None:
        self.address, self.key = address, key
        self.line: Connection | None = None

    def point(self, stage: str, row: Row) -> None:
        """Forward one point of a curve."""
        self._say("point", stage, row)

    def finished(self, done: Finished) -> None:
        """Forward a finished stage."""
        self._say("finished", done)

    def _say(self, event: str, *args: Any) -> None:
        if self.line is None:
            self.line = Client(self.address, authkey=self.key)
        self.line.send((event, args))
        if not self.line.poll(PATIENCE):
            raise UserError(
                "the command that started this rank has not taken up what it has to log for "
                f"{PATIENCE:.0f} s: it is stopped or overloaded; the same command goes on from the "
                "last checkpoint"
            )
        self.line.recv()


class Switchboard:
    """Receive the calls of relays and make them on ``logger``."""

    def __init__(self, logger: Logger) -> None:
        self.logger, self.key = logger, os.urandom(16)
        self.listener = Listener(authkey=self.key)
        threading.Thread(target=self._answer, daemon=True).start()

    def relay(self) -> Relay:
        """Return a relay that another process can use."""
        return Relay(self.listener.address, self.key)

    def close(self) -> None:
        """Take no more calls."""
        self.listener.close()

    def _answer(self) -> None:
        while True:
            try:
                line = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._listen, args=(line,), daemon=True).start()

    def _listen(self, line: Connection) -> None:
        try:
            while True:
                event, args = line.recv()
                getattr(self.logger, event)(*args)
                line.send(None)
        except (EOFError, OSError):
            line.close()
