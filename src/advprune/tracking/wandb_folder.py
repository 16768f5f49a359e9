"""Manage the runs that W&B keeps on disk: who writes which, and what earlier attempts left."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

#: Where older files of a run go: a folder deeper than ``wandb sync`` looks.
REPLACED = "replaced"
#: Bytes of a run's file that has its header and no record.
EMPTY = 16
#: Seconds after which a file's last bytes are on disk, whoever wrote them.
SETTLED = 60.0


class Folder:
    """Manage ``multirun/wandb``, where ``wandb sync multirun/wandb`` finds all jobs.

    A job that goes on, or is found in the store, logs its run again from the start, under the same
    id, so the files of earlier attempts add nothing. And one file that a kill left without its
    first record keeps ``wandb sync`` from sending any (0.31: without a word, exit 0). Both are set
    aside.

    Args:
        shared: the folder of all outputs.
        identity: the run's id.
    """

    def __init__(self, shared: Path, identity: str) -> None:
        self.parent, self.id = shared, identity
        self.root = shared / "wandb"
        self._lock: Any = None

    def claim(self) -> bool:
        """Become the run's only writer, until ``release``; return False if another process is."""
        self._lock = self._free_lock(self.id)
        return self._lock is not None

    def _free_lock(self, identity: str) -> Any:
        """Acquire and return the lock of a run; None if another process holds it."""
        from filelock import FileLock, Timeout

        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{identity}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def release(self) -> None:
        """Let another process write."""
        if self._lock is not None:
            self._lock.release()

    def runs(self) -> list[Path]:
        """Return the folders of this run, oldest first."""
        return sorted(self.root.glob(f"*run-*-{self.id}"))

    def set_aside(self) -> None:
        """Move away what earlier attempts at this run wrote and nobody has sent."""
        for run in self.runs():
            if run.name.startswith("offline-") and not any(run.glob("*.synced")):
                self._away(run)

    def set_empty_aside(self) -> None:
        """Move away runs of any job that died before they had anything to send."""
        for file in self.root.glob("offline-run-*/run-*.wandb"):
            if not _empty(file):
                continue
            lock = self._free_lock(file.stem.removeprefix("run-"))
            if lock is not None:
                with lock:
                    self._away(file.parent)

    def _away(self, run: Path) -> None:
        (self.root / REPLACED).mkdir(exist_ok=True)
        run.rename(self.root / REPLACED / run.name)

    def has_logged(self, content: object) -> bool:
        """Return whether exactly this content was logged already, and is still on disk."""
        try:
            note = json.loads(self._note_path.read_text())
        except (OSError, ValueError):
            return False
        files = (self.root / note["run"]).glob("*.wandb")
        return note["digest"] == _digest(content) and any(not _empty(file) for file in files)

    def remember(self, content: object, run: Path) -> None:
        """Note that this content was logged, in this folder."""
        self._note_path.parent.mkdir(exist_ok=True)
        part = self._note_path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({"digest": _digest(content), "run": run.name}))
        part.replace(self._note_path)

    @property
    def _note_path(self) -> Path:
        return self.root / "told" / f"{self.id}.json"


def _empty(file: Path) -> bool:
    """Return whether a run's process died before it wrote a record."""
    now = file.stat()
    return now.st_size <= EMPTY and time.time() - now.st_mtime > SETTLED


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
