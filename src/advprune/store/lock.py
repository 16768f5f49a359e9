"""Lock a stage's folder for one maker, and take over from a holder that gives no sign of life.

The system frees the lock (``filelock``) of a process that dies. A network filesystem may not, when
a whole host dies. So a holder touches a file beside the lock every ``BEAT`` seconds. A waiter that
sees it untouched for ``PATIENCE`` seconds by its own clock takes the lock's file away and starts
with a new one. A holder that was only asleep finds, before it marks anything as finished, that the
lock is no longer its own, and gives up (``Held.check``).
"""

import errno
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advprune.errors import UserError
from advprune.runtime.safe_files import read_json, write_atomically

log = logging.getLogger(__name__)
LOCK = ".lock"
HOLDER = ".holder"
#: Seconds between two signs of life, and without one until a holder counts as dead.
BEAT, PATIENCE = 15.0, 600.0


@dataclass(frozen=True)
class Held:
    """Represent a lock that this process holds, or held."""

    folder: Path
    inode: int

    @property
    def ours(self) -> bool:
        """Return whether no other process has taken the lock over."""
        try:
            return (self.folder / LOCK).stat().st_ino == self.inode and _is_this_process(
                holder(self.folder)
            )
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Stop a maker that has lost its lock.

        Raises:
            UserError: naming the process that has it.
        """
        if self.ours:
            return
        raise UserError(
            f"{self.folder} was taken over by {describe_holder(holder(self.folder))}, for this "
            f"process gave no sign of life for {PATIENCE:.0f} s; nothing was marked as finished "
            "here: give the same command again"
        )


@contextmanager
def hold(folder: Path, *, waiting: Callable[[float], object]) -> Iterator[Held]:
    """Hold the folder's lock, waiting for another holder or replacing a dead one.

    Args:
        folder: to be locked; it must exist.
        waiting: called with the seconds waited so far, every five seconds.

    Yields:
        The lock.
    """
    # 0.1 s, which a command that finds all it wants need not spend
    from filelock import FileLock, Timeout

    waited, watch = 0.0, _Watch(folder)
    while True:
        lock = FileLock(folder / LOCK)
        try:
            if (folder / LOCK).is_dir():  # filelock would wait for it without an end
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(folder / LOCK))
            lock.acquire(timeout=min(5.0, PATIENCE / 4) if waited else 0.05)
            break
        except Timeout:
            waited += 5.0
            waiting(waited)
            watch.look()
    try:
        record = _this_process() | {"since": time.strftime("%Y-%m-%dT%H:%M:%S")}
        write_atomically(folder / HOLDER, json.dumps(record), durable=False)
        held = Held(folder, (folder / LOCK).stat().st_ino)
        try:
            with _giving_signs(folder / HOLDER):
                yield held
        finally:
            if held.ours:
                (folder / HOLDER).unlink(missing_ok=True)
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Return whether another process holds the folder's lock; it need not exist.

    Of a folder in which this process may not write, it is not known, and False.
    """
    if not (folder / HOLDER).exists():  # which a holder takes away when it ends
        return False
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # whoever wants to make the stage says it
        return False


def holder(folder: Path) -> dict[str, Any]:
    """Return who wrote its name beside the lock (``host``, ``pid``, ``since``); empty if nobody."""
    try:
        record = read_json(folder / HOLDER)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def describe_holder(who: Mapping[str, object]) -> str:
    """Describe a holder for a message."""
    return (
        f"process {who['pid']} on {who['host']}"
        if {"pid", "host"} <= who.keys()
        else "another process"
    )


class _Watch:
    """Watch a lock's files for signs of life of its holder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last_sign, self.since = self._sign(), time.monotonic()

    def _sign(self) -> tuple[int, ...]:
        try:
            lock = (self.folder / LOCK).stat()
        except FileNotFoundError:
            return ()
        try:
            name = (self.folder / HOLDER).stat()
        except FileNotFoundError:  # a holder that ended between its lock and its name
            return (lock.st_ino,)
        return lock.st_ino, name.st_ino, name.st_mtime_ns

    def look(self) -> None:
        """Take the lock's file away if its holder has given no sign for too long."""
        sign = self._sign()
        if sign != self.last_sign:
            self.last_sign, self.since = sign, time.monotonic()
        elif sign and time.monotonic() - self.since > PATIENCE:
            who = describe_holder(holder(self.folder))
            log.warning("%s gave no sign of life for %.0f s: it is replaced", who, PATIENCE)
            (self.folder / LOCK).unlink(missing_ok=True)


@contextmanager
def _giving_signs(path: Path) -> Iterator[None]:
    stop = threading.Event()
    descriptor = os.open(path, os.O_RDONLY)  # not what another process puts in its place

    def beat() -> None:
        while not stop.wait(BEAT):
            with suppress(OSError):  # a sign that is lost is no reason to stop making
                os.utime(descriptor)

    thread = threading.Thread(target=beat, name="sign of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        os.close(descriptor)


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _is_this_process(who: Mapping[str, object]) -> bool:
    return {name: who.get(name) for name in ("host", "pid")} == _this_process()
