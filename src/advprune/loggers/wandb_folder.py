"""The runs W&B keeps on disk: who writes which, what a killed job left, and what was told before."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

#: Where older files of a run go: a folder deeper than ``wandb sync`` looks.
REPLACED = "replaced"


class Folder:
    """``multirun/wandb``, where ``wandb sync multirun/wandb`` finds all jobs.

    A job that goes on, or is found, tells its run again from the start, under the same id. So the files that earlier
    attempts left say nothing more, and must not be sent: ``wandb sync`` stops at the first file that a kill cut short,
    and sends none of the others.
    """

    def __init__(self, shared: Path, identity: str) -> None:
        self.parent, self.id = shared, identity
        self.root = shared / "wandb"
        self._lock: Any = None

    def claim(self) -> bool:
        """Become the run's only writer, until ``release``; False if another process is."""
        from filelock import FileLock, Timeout

        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(locks / f"{self.id}.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self._lock = None
        return self._lock is not None

    def release(self) -> None:
        """Let the next one write."""
        if self._lock is not None:
            self._lock.release()

    def runs(self) -> list[Path]:
        """Folders of this run, oldest first."""
        return sorted(self.root.glob(f"*run-*-{self.id}"))

    def set_aside(self) -> None:
        """Put away what earlier attempts wrote and nobody has sent."""
        for run in self.runs():
            if run.name.startswith("offline-") and not any(run.glob("*.synced")):
                (self.root / REPLACED).mkdir(exist_ok=True)
                run.rename(self.root / REPLACED / run.name)

    def told(self, content: Any) -> bool:
        """Whether just this was told already, and is still there."""
        try:
            known = json.loads(self._note.read_text())
        except (OSError, ValueError):
            return False
        return known["digest"] == _digest(content) and (self.root / known["run"]).is_dir()

    def remember(self, content: Any, run: Path) -> None:
        """Note that this was told, in this folder."""
        self._note.parent.mkdir(exist_ok=True)
        part = self._note.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({"digest": _digest(content), "run": run.name}))
        part.replace(self._note)

    @property
    def _note(self) -> Path:
        return self.root / "told" / f"{self.id}.json"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
