"""Checksums of files, computed once, and again where a file's size or times have changed.

Only the standard library is imported, so that a stage's key can be made without loading torch.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from advprune.errors import UserError
from advprune.runtime.safe_files import write_atomically

log = logging.getLogger(__name__)
#: From so many bytes on, or files, checksums are kept; less is read as quickly as a manifest.
LARGE, MANY = 1 << 24, 256
#: Threads that read, for disks answer several at once; and files that one takes at a time.
READERS, BLOCK = 4, 64
#: From so many bytes on the user is told what takes the time.
LONG = 1 << 30
#: A file changed so shortly before it was read (in ns) may change again within the same tick of the
#: disk's clock; of disks that only count whole seconds, or two, the tick is longer.
TICK, LONG_TICK = 50_000_000, 2_000_000_000
#: Size, time of the last change of the content, time of any change (which nobody can set back),
#: checksum.
Entry = tuple[int, int, int, str]


@dataclass(frozen=True)
class Checksums:
    """Checksums of files, remembered in a folder of manifests, one for each root.

    Attributes:
        folder: of the manifests; None remembers nothing.
        whole: read every file again, whatever the manifests say.
        algorithm: of ``hashlib``.
    """

    folder: Path | None
    whole: bool = field(default=False, kw_only=True)
    algorithm: str = field(default="sha256", kw_only=True)

    def of(self, root: Path, names: Sequence[str]) -> list[str]:
        """Return the checksum of each of these files under ``root``.

        Raises:
            UserError: naming the file, if one cannot be read, or is being written.
        """
        path = self._manifest(root)
        known = {} if self.whole or path is None else _read(path)
        stamps = {name: _stamp(f"{root}/{name}") for name in names}
        new = [name for name in names if known.get(name, ())[:3] != stamps[name]]
        size = sum(stamps[name][0] for name in new)
        if size >= LONG:
            log.info(
                "reading %d files of %s once, %.1f GB, for their checksums",
                len(new),
                root,
                size / 1e9,
            )
        blocks = [new[start : start + BLOCK] for start in range(0, len(new), BLOCK)]
        with ThreadPoolExecutor(READERS) as pool:
            entries = pool.map(
                lambda block: [_checked(root / name, self.algorithm) for name in block], blocks
            )
            read = dict(zip(new, chain.from_iterable(entries), strict=True))
        kept = {name: entry for name, entry in read.items() if _settled(entry)}
        large = len(names) >= MANY or sum(entry[0] for entry in stamps.values()) >= LARGE
        if kept and large and path is not None:
            _write(path, {**known, **kept})
        return [(read.get(name) or known[name])[3] for name in names]

    def _manifest(self, root: Path) -> Path | None:
        if self.folder is None:
            return None
        name = hashlib.sha256(
            f"{self.algorithm} {root.absolute()}".encode("utf-8", "surrogateescape")
        ).hexdigest()
        return self.folder / f"{name[:16]}.json"


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """Return the checksum of one file.

    Raises:
        UserError: if it cannot be read, or is being written.
    """
    return _checked(path, algorithm)[3]


def combined(names: Sequence[str], checksums: Sequence[str]) -> str:
    """Return one checksum of files, from their names and checksums."""
    whole = hashlib.sha256()
    for name, digest in zip(names, checksums, strict=True):
        whole.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116  60,000 of them: a Path each would take as long again
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}; give a path that is there, and may be read"
        ) from None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _checked(path: Path, algorithm: str) -> Entry:
    for _ in range(3):
        before = _stamp(str(path))
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(
                    file, lambda: hashlib.new(algorithm, usedforsecurity=False)
                ).hexdigest()
        except OSError as error:
            raise UserError(
                f"{path} cannot be read: {error.strerror}; give the path of a file"
            ) from None
        if _stamp(str(path)) == before:
            return (*before, digest)
    raise UserError(
        f"{path} changes while it is read: wait until it is written, and give the same command "
        "again"
    )


def _settled(entry: Entry) -> bool:
    """Return whether a later change of the file must show in its times."""
    newest = max(entry[1], entry[2])
    return time.time_ns() - newest > (TICK if newest % 1_000_000_000 else LONG_TICK)


def _read(path: Path) -> dict[str, Entry]:
    """Read a manifest; empty if it is not there, or damaged."""
    try:
        digest, _, text = path.read_text().partition("\n")
    except (OSError, ValueError):
        return {}
    if digest != hashlib.sha256(text.encode()).hexdigest():
        log.warning("%s is damaged: the files that it is about are read again", path)
        return {}
    return {name: tuple(entry) for name, entry in json.loads(text).items()}


def _write(path: Path, entries: dict[str, Entry]) -> None:
    text = json.dumps(entries)
    with suppress(OSError):  # a store that is only read: the next command takes as long as this one
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(
            path, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}", durable=False
        )
