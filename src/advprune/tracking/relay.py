"""A job's logger in the processes it starts: its ranks tell theirs, which is in the process of the job."""

import os
import threading
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from advprune.errors import UserError
from advprune.tracking.logger import Finished, Logger, Row

#: Seconds until a job that answers nothing counts as stuck.
PATIENCE = 1800.0


class Relay(Logger):
    """Says to another process's logger what a stage has to say; each word is answered, so their order is kept.

    Args:
        address, key: of a ``Switchboard``.
    """

    def __init__(self, address: Any, key: bytes) -> None:
        self.address, self.key = address, key
        self.line: Connection | None = None

    def point(self, stage: str, row: Row) -> None:
        """Passed on."""
        self._say("point", stage, row)

    def finished(self, found: Finished) -> None:
        """Passed on."""
        self._say("finished", found)

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
    """Where relays call; ``logger`` is told what they say."""

    def __init__(self, logger: Logger) -> None:
        self.logger, self.key = logger, os.urandom(16)
        self.listener = Listener(authkey=self.key)
        threading.Thread(target=self._answer, daemon=True).start()

    def relay(self) -> Relay:
        """One to give to another process."""
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
