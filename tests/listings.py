"""Make every listing of a folder come in another order, so that no test passes by the order of one file system."""

import glob
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


def shuffle(seed: int) -> Callable[[], None]:
    """Order what ``os``, ``glob`` and ``Path`` list by a hash of the seed and the name; give back what undoes it.

    The same seed gives the same order on every machine. ``os.walk`` and ``shutil`` list with
    ``os.scandir``.
    """

    def order(entries: Iterable[Any], name: Callable[[Any], Any]) -> list[Any]:
        def place(entry: Any) -> tuple[int, bytes]:
            text = os.fsencode(name(entry))
            return zlib.crc32(b"%d %s" % (seed, text)), text

        return sorted(entries, key=place)

    def of_path(method: Callable[..., Any]) -> Callable[..., Any]:
        def listed(self: Path, *given: Any, **options: Any) -> Iterator[Any]:
            return iter(
                order(method(self, *given, **options), lambda entry: entry.relative_to(self))
            )

        return listed

    listdir, scandir, found = os.listdir, os.scandir, glob.glob
    changes: list[tuple[Any, str, Callable[..., Any]]] = [
        (os, "listdir", lambda *path: order(listdir(*path), lambda name: name)),
        (
            os,
            "scandir",
            lambda *path: _Entries(
                scandir(*path), lambda given: order(given, lambda entry: entry.name)
            ),
        ),
        (
            glob,
            "glob",
            lambda *given, **options: order(found(*given, **options), lambda path: path),
        ),
        *((Path, name, of_path(getattr(Path, name))) for name in ("iterdir", "glob", "rglob")),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    for owner, name, function in changes:
        setattr(owner, name, function)

    def undo() -> None:
        for owner, name, function in before:
            setattr(owner, name, function)

    return undo


class _Entries:
    """What ``os.scandir`` gives, in the other order."""

    def __init__(self, entries: Any, order: Callable[[Iterable[Any]], list[Any]]) -> None:
        with entries:
            self._left = iter(order(entries))

    def __iter__(self) -> "_Entries":
        return self

    def __next__(self) -> Any:
        return next(self._left)

    def __enter__(self) -> "_Entries":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: the folder was let go of at once."""
