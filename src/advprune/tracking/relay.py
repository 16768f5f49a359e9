"""Let the processes of a job's ranks call the logger of the process that started them."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from advprune.errors import UserError
from advprune.tracking.logger import Finished, Logger, Loggers, Row

#: Seconds until a job that answers nothing counts as stuck.
PATIENCE = 1800.0


@contextmanager
def for_ranks(logger: Logger) -> Iterator[Logger]:
    """Take the calls of other processes; afterwards what they log is lost, and they go on.

    Args:
        logger: of this process.

    Yields:
        The logger of the other processes, which can be pickled.
    """
    switchboard = Switchboard(logger)
    try:
        yield Loggers([switchboard.relay()])
    finally:
        switchboard.close()


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
