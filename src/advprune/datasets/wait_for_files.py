"""Wait for another process that prepares a set's files, as long as it makes progress."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

#: Seconds without a sign of life until a process that holds a lock is not waited for any longer.
PATIENCE = 600.0


@contextmanager
def hold_lock(
    lock: Path, *, sign: Callable[[], object], patience: float = PATIENCE
) -> Iterator[bool]:
    """Hold a file lock, once the process that has it releases it or dies.

    Args:
        lock: its file.
        sign: anything that changes while the holder gets on, such as the size of what it writes.
        patience: seconds without a change until it is not waited for any longer, as on another host
            that died.

    Yields:
        Whether the lock is held.
    """
    file_lock = FileLock(lock)
    last, since = sign(), time.monotonic()
    while True:
        try:
            file_lock.acquire(timeout=min(5.0, patience / 4))
            break
        except Timeout:
            now = sign()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                yield False
                return
    try:
        yield True
    finally:
        file_lock.release()


def bytes_in(folder: Path) -> int:
    """Sum the bytes of all files in a folder and its subfolders; some may vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total
