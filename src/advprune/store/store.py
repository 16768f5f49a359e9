"""Keep finished stages on disk: one folder each, found again by its key.

Safe for many processes: a stage is made under a file lock (``lock.py``); the mark ``complete`` is
written last, with an atomic rename, so nobody sees half a stage. The mark knows the other files, so
a damaged one is noticed.
"""

import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advprune.errors import UserError
from advprune.runtime.safe_files import fenced, read_json, write_atomically
from advprune.store.checksums import MARK, find_damage, write_manifest
from advprune.store.lock import Held, hold, is_held

if TYPE_CHECKING:
    from advprune.store.stage import Stage

log = logging.getLogger(__name__)
WORK = "work"
#: Candidates that are kept for the user: nothing is made from them, and they are as large as the
#: weights.
UNREAD = frozenset({"last.safetensors", "best.safetensors"})


def is_complete(folder: Path) -> bool:
    """Return whether the folder was ever finished."""
    return (folder / MARK).exists()


def unseal(folder: Path) -> None:
    """Take the mark away: to everybody, the folder is unfinished."""
    (folder / MARK).unlink(missing_ok=True)


class Store:
    """Keep finished stages under ``root``; ``root/journal.jsonl`` lists what was found and made."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.held: dict[str, Held] = {}
        self.reported: set[str] = set()

    def folder(self, stage: "Stage[Any]") -> Path:
        """Return where this stage is, or will be."""
        return self.root / stage.kind / stage.key

    def done(self, stage: "Stage[Any]", *, read: bool = False) -> bool:
        """Return whether the stage is finished, with all its files in their sizes.

        Args:
            stage: to look up.
            read: also compare each file that others are made from with its checksum.
        """
        folder = self.folder(stage)
        if not is_complete(folder):
            return False
        wrong = find_damage(folder, read=read, unread=UNREAD)
        # else somebody just began to make it again
        if wrong and is_complete(folder) and wrong not in self.reported:
            self.reported.add(wrong)
            log.warning("%s: %s %s is made again", wrong, stage.kind, stage.key)
        return wrong is None

    def result(self, stage: "Stage[Any]") -> dict[str, Any]:
        """Return what a finished stage wrote about itself.

        Raises:
            UserError: if its ``result.json`` cannot be read; the message names it and how to have
                it made again.
        """
        path = self.folder(stage) / "result.json"
        try:
            return read_json(path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} is damaged ({error}); delete its folder and give the command again"
            ) from None

    def begin(self, stage: "Stage[Any]") -> None:
        """Mark a stage that this process has claimed as unfinished, from here on and to everybody.

        Raises:
            UserError: if another process took the stage over meanwhile.
        """
        folder = self.folder(stage)
        self._still_ours(stage)
        unseal(folder)
        (folder / WORK).mkdir(exist_ok=True)

    def finish(self, stage: "Stage[Any]", result: Mapping[str, object]) -> None:
        """Write the result, then the mark; remove the scratch folder last, when nobody needs it.

        Raises:
            UserError: if another process took the stage over meanwhile.
        """
        folder = self.folder(stage)
        self._still_ours(stage)
        write_atomically(folder / "result.json", json.dumps(result, indent=1, sort_keys=True))
        write_manifest(folder)
        shutil.rmtree(folder / WORK, ignore_errors=True)

    def _still_ours(self, stage: "Stage[Any]") -> None:
        if stage.key in self.held:
            self.held[stage.key].check()

    def note(self, stage: "Stage[Any]", event: str, **facts: object) -> None:
        """Append a line to the journal, in one write, so that processes do not mix theirs."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "event": event,
            "stage": stage.kind,
            "key": stage.key,
        }
        line |= {"pid": os.getpid(), "host": socket.gethostname(), **facts}
        with (self.root / "journal.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def is_claimed(self, stage: "Stage[Any]") -> bool:
        """Return whether another process is making the stage right now."""
        return is_held(self.folder(stage))

    @contextmanager
    def claim(self, stage: "Stage[Any]", *, waiting: Callable[[float], object]) -> Iterator[Path]:
        """Hold the stage's lock while it is made.

        Inside, nothing is written into the folder once another process has taken it over.

        Args:
            stage: to be made.
            waiting: called with the seconds waited so far, while another process holds it.

        Yields:
            The stage's folder.
        """
        folder = self.folder(stage)
        folder.mkdir(parents=True, exist_ok=True)
        with hold(folder, waiting=waiting) as held:
            self.held[stage.key] = held
            try:
                with fenced(lambda path: held.check() if folder in path.parents else None):
                    yield folder
            finally:
                del self.held[stage.key]
                # whoever took it over has finished, and needs no scratch folder
                if is_complete(folder) and not held.ours:
                    shutil.rmtree(folder / WORK, ignore_errors=True)
