"""The mark of a finished folder: the size and the SHA-256 of each of its files, written last.

So a file that was cut short, changed or lost later is noticed, and named, and what it belongs to can be made again.
"""

import hashlib
import json
from pathlib import Path

from advprune.atomic import PART, replace

MARK = "complete"


def seal(folder: Path) -> None:
    """Mark the folder as finished; what a killed writer left beside its files goes first.

    Raises:
        OSError: with the path, if the mark cannot be written.
    """
    for part in folder.glob(f".*{PART}"):
        part.unlink(missing_ok=True)
    replace(folder / MARK, json.dumps({path.name: _facts(path) for path in _files(folder)}, indent=1, sort_keys=True))


def sealed(folder: Path) -> bool:
    """Whether the folder was ever finished."""
    return (folder / MARK).exists()


def unseal(folder: Path) -> None:
    """Take the mark away: to everybody, the folder is unfinished."""
    (folder / MARK).unlink(missing_ok=True)


def damaged(folder: Path, *, read: bool) -> str | None:
    """What is wrong with a finished folder: a sentence that names the file; None if nothing is.

    Args:
        read: compare each file's SHA-256, and not its size alone. ``result.json``, which is small, always is.
    """
    try:
        text = (folder / MARK).read_text()
        for name, facts in json.loads(text or "{}").items():  # empty: made before marks held anything
            path = folder / name
            size = path.stat().st_size
            if size != facts["bytes"]:
                return f"{path} is damaged: it has {size} bytes and not {facts['bytes']}"
            if (read or name == "result.json") and _digest(path) != facts["sha256"]:
                return f"{path} is damaged: its SHA-256 is another one than when it was written"
    except FileNotFoundError as error:
        return f"{error.filename} is gone"
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"{folder / MARK} is damaged: it is not the mark that was written"
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != "." and path.name != MARK)


def _facts(path: Path) -> dict[str, int | str]:
    return {"bytes": path.stat().st_size, "sha256": _digest(path)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
