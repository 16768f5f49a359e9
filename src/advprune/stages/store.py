"""The store: one folder a finished stage, found again by its key.

Safe for many processes: a stage is made under a file lock (``filelock``), which the system releases when its holder
dies; the mark ``complete`` is written last, with an atomic rename, so nobody sees half a stage.
"""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advprune.atomic import replace
from advprune.errors import UserError

if TYPE_CHECKING:
    from advprune.stages.plan import Stage

COMPLETE = "complete"
WORK = "work"


class Store:
    """Finished stages under ``root``; ``root/journal.jsonl`` tells what was found and what was made."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def folder(self, stage: "Stage") -> Path:
        """Where this stage is, or will be."""
        return self.root / stage.kind / stage.key

    def done(self, stage: "Stage") -> bool:
        """Whether the stage is finished."""
        return (self.folder(stage) / COMPLETE).exists()

    def result(self, stage: "Stage") -> dict[str, Any]:
        """What a finished stage wrote down about itself.

        Raises:
            UserError: if its ``result.json`` cannot be read; the message names it and how to have it made again.
        """
        path = self.folder(stage) / "result.json"
        try:
            return json.loads(path.read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise UserError(f"{path} is damaged ({error}); delete its folder and give the command again") from None

    def finish(self, stage: "Stage", result: dict[str, Any]) -> None:
        """Write the result and then the mark; the scratch folder goes last, when it is no longer needed."""
        folder = self.folder(stage)
        replace(folder / "result.json", json.dumps(result, indent=1, sort_keys=True))
        replace(folder / COMPLETE, "")
        shutil.rmtree(folder / WORK, ignore_errors=True)

    def note(self, stage: "Stage", event: str, **facts: Any) -> None:
        """Append a line to the journal; lines of one write each, so that processes do not mix theirs."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "event": event,
            "stage": stage.kind,
            "key": stage.key,
        }
        line |= {"pid": os.getpid(), "host": socket.gethostname(), **facts}
        with (self.root / "journal.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    @contextmanager
    def claim(self, stage: "Stage", *, waiting: Any) -> Iterator[Path]:
        """Hold the stage's lock; ``waiting(seconds)`` is called now and then while another process has it.

        Yields:
            The stage's folder, with its scratch folder made.
        """
        from filelock import FileLock, Timeout  # 0.1 s, which a finished command need not spend

        folder = self.folder(stage)
        (folder / WORK).mkdir(parents=True, exist_ok=True)
        lock, waited = FileLock(folder / ".lock"), 0.0
        while True:
            try:
                with lock.acquire(timeout=5.0 if waited else 0.05):
                    yield folder
                return
            except Timeout:
                waited += 5.0
                waiting(waited)
