"""Mark a folder as finished by a manifest of its files, their sizes and checksums, written last.

So a file that was cut short, changed or lost later is noticed, and named, and what it belongs to
can be made again. The checksum is CRC-32: against disks, not against people, and several times
faster than SHA-256 on weights of 100 MB.
"""

import json
import stat
import zlib
from collections.abc import Collection
from pathlib import Path

from advprune.runtime.safe_files import PART, read_json, write_atomically

MARK = "complete"
#: What every finished folder has.
RESULT = "result.json"


def write_manifest(folder: Path) -> None:
    """Mark the folder as finished; remove first what a killed writer left in it.

    Raises:
        OSError: with the path, if the mark cannot be written.
    """
    for part in folder.glob(f".*{PART}"):
        part.unlink(missing_ok=True)
    write_atomically(
        folder / MARK,
        json.dumps({path.name: _facts(path) for path in _files(folder)}, indent=1, sort_keys=True),
    )


def find_damage(folder: Path, *, read: bool, unread: Collection[str] = ()) -> str | None:
    """Describe what is wrong with a finished folder, naming the file; None if nothing is.

    Args:
        folder: of a finished stage.
        read: compare each file's checksum, and not its size alone. ``result.json``, which is small,
            always is.
        unread: names of files of which the size is enough all the same.
    """
    mark = folder / MARK
    try:
        files = read_json(mark)
        if (
            not isinstance(files, dict)
            or RESULT not in files
            or any(Path(name).name != name for name in files)
        ):
            raise ValueError("it names no result")
        for name, facts in files.items():
            path = folder / name
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return f"{path} is damaged: it is no file"
            if status.st_size != facts["bytes"]:
                return f"{path} is damaged: it has {status.st_size} bytes and not {facts['bytes']}"
            whole = name == RESULT or (read and name not in unread)
            if whole and _checksum(path) != facts["crc32"]:
                return f"{path} is damaged: its checksum is another one than when it was written"
    except FileNotFoundError as error:
        return f"{error.filename} is gone"
    except (ValueError, TypeError, KeyError):
        return f"{mark} is damaged: it is not the mark that was written"
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.name[0] != "." and path.name != MARK
    )


def _facts(path: Path) -> dict[str, int]:
    return {"bytes": path.stat().st_size, "crc32": _checksum(path)}


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
