"""Asked to stop: SIGTERM, SIGUSR1 and SIGUSR2 end a command at the next safe point, so that it can go on later.

A cluster sends one of them before it takes a job's machine away, or its time is over. Training puts
the stop off until its step is done and saved; everything else is left at once, as its files are
whole at any instant.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(BaseException):
    """The command was asked to stop, and nothing is lost. Not an ``Exception``: nobody is to catch it on the way.

    Args:
        signum: the signal that asked.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(signum).name}; the same command goes on where it was"
        )
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """Of the process, by the shell's custom."""
        return 128 + self.signum


class _Listener:
    """What this process was asked, and whether it can stop right now."""

    def __init__(self) -> None:
        self.listening, self.postponed = False, 0
        self.signum: int | None = None

    def __call__(self, signum: int, _: Any) -> None:
        self.signum = self.signum or signum
        if not self.postponed:
            raise Stopped(self.signum)


_listener = _Listener()


def listen() -> None:
    """Take the three signals over, from now on and from whoever has them. Only a main thread can."""
    if threading.current_thread() is threading.main_thread():
        _listener.listening, _listener.signum = True, None
        for number in SIGNALS:
            signal.signal(number, _listener)


def listen_again() -> None:
    """Take them back from a library that put its own handlers there; nothing if ``listen`` was never called."""
    if _listener.listening and threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _listener)


def asked() -> int | None:
    """The signal that asked this process to stop, if one did."""
    return _listener.signum


@contextmanager
def postponed() -> Iterator[None]:
    """Inside, a signal is only noted: look at ``asked()``, save, and raise ``Stopped``. At the end, it is raised."""
    _listener.postponed += 1
    try:
        yield
    finally:
        _listener.postponed -= 1
    if _listener.signum is not None and not _listener.postponed:
        raise Stopped(_listener.signum)
