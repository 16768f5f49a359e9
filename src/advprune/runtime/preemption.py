"""Stop at a safe point when SIGTERM, SIGUSR1 or SIGUSR2 asks, so that the command can go on later.

A cluster sends one of them before it takes a job's machine away, or its time is over. Training puts
the stop off until its step is done and saved; everything else stops at once, as its files are whole
at any instant.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(BaseException):
    """Signal that the command was asked to stop, with nothing lost.

    It is no ``Exception``, so that nobody catches it on the way.

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
        """Return the exit code of the process, by the shell's custom."""
        return 128 + self.signum


class _Listener:
    """Remember which signal this process received, and whether it can stop right now."""

    def __init__(self) -> None:
        self.listening, self.postponed = False, 0
        self.signum: int | None = None

    def __call__(self, signum: int, _: object) -> None:
        self.signum = self.signum or signum
        if not self.postponed:
            raise Stopped(self.signum)


#: A process has one handler for each signal.
_listener = _Listener()


def listen() -> None:
    """Handle the three signals from now on, whoever handled them before; only a main thread can."""
    if threading.current_thread() is threading.main_thread():
        _listener.listening, _listener.signum = True, None
        for number in SIGNALS:
            signal.signal(number, _listener)


def listen_again() -> None:
    """Take the signals back from a library that installed its own handlers.

    It does nothing if ``listen`` was never called.
    """
    if _listener.listening and threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _listener)


def stop_listening() -> None:
    """Ignore the signals and Ctrl-C from now on: the process ends, and its exit code shall stay."""
    for number in (*SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def interrupt_once() -> None:
    """Raise ``KeyboardInterrupt`` at the first Ctrl-C only; for a rank.

    It has the terminal's Ctrl-C already when whoever started it passes the same one on, which would
    break off what the first one began to end.
    """
    heard = threading.Event()

    def interrupt(*_: object) -> None:
        if not heard.is_set():
            heard.set()
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)


def asked() -> int | None:
    """Return the signal that asked this process to stop, or None."""
    return _listener.signum


@contextmanager
def postponed() -> Iterator[None]:
    """Inside, only note a signal: look at ``asked()``, save, and raise ``Stopped``.

    Raises:
        Stopped: at the end, if a signal came meanwhile and nobody has raised it.
    """
    _listener.postponed += 1
    try:
        yield
    finally:
        _listener.postponed -= 1
    if _listener.signum is not None and not _listener.postponed:
        raise Stopped(_listener.signum)
