"""Write a file whole or not at all: under another name beside its place, then renamed."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

#: Libraries that write in between pass nothing through; a context belongs to one claim of a stage.
_FENCE: ContextVar[Callable[[Path], None] | None] = ContextVar("fence", default=None)
#: How the name of a file that is still being written ends; it starts with a dot, and a killed
#: writer leaves it.
PART = ".part"


@contextmanager
def fenced(fence: Callable[[Path], None]) -> Iterator[None]:
    """Inside, call ``fence(path)`` before a file takes its place; if it raises, the old stays."""
    token = _FENCE.set(fence)
    try:
        yield
    finally:
        _FENCE.reset(token)


def write_atomically(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Replace ``path`` by ``content`` in one step; a full disk or a kill leaves the old file.

    Processes that write the same file at once do not mix: each has a part of its own, and the last
    rename stays. A link in the place of either is replaced, and not written through.

    Args:
        path: of the file.
        content: bytes, or text written as UTF-8.
        durable: also flush it to the disk before it takes the place, so that a power cut leaves one
            of the two.

    Raises:
        OSError: with the path, if it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    fence = _FENCE.get()
    try:
        with suppress(FileNotFoundError):  # a killed writer's, or a link that somebody planted
            part.unlink()
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if fence is not None:  # as late as can be: the process may have slept until now
            try:
                fence(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        part.replace(path)
    except OSError as error:
        with suppress(OSError):  # on a read-only disk even this is refused
            part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
