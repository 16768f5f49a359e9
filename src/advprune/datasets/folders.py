"""Walk the folders of a tree of images, whatever else lies in them.

Only the standard library is imported, as in ``listing.py``.
"""

import os
from pathlib import Path

from advprune.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LAYOUT = (
    "lay it out as <root>/train/<class>/<image> and <root>/test/<class>/<image> (or val/), "
    "and give dataset.root="
)


def subfolders(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders in ``folder``, sorted, and of the files, but hidden ones."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not there: {LAYOUT}")
    entries = [entry for entry in _entries(folder) if not entry.name.startswith(".")]
    names = sorted(entry.name for entry in entries if _is_folder(entry))
    if not names:
        raise UserError(f"{folder} has no class folders: {LAYOUT}")
    return names, sorted({entry.name for entry in entries} - set(names))


def walk(
    folder: Path | str,
    prefix: str,
    images: list[str],
    others: list[str],
    above: set[tuple[int, int]],
) -> None:
    """Collect images and other files of a folder and its subfolders.

    ``above`` are the folders that it lies in.
    """
    here = identity(folder)
    if here in above:
        raise UserError(f"{folder} is a link to a folder that it lies in itself: remove the link")
    for entry in _entries(folder):
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            walk(entry.path, f"{prefix}{entry.name}/", images, others, above | {here})
        elif entry.name.lower().endswith(SUFFIXES) and (
            entry.is_file() or not Path(entry.path).exists()
        ):
            # a link that leads nowhere, too: it is named when it is decoded
            images.append(prefix + entry.name)
        else:  # also a pipe or a device, whatever its name: opening it may never end
            others.append(prefix + entry.name)


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(
            f"the folder {folder} cannot be read ({error.strerror}): change that, or remove it"
        ) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise UserError(f"{entry.path} cannot be followed ({error.strerror}): remove it") from None


def identity(folder: Path | str) -> tuple[int, int]:
    """Return what tells a folder from all others, whatever links lead to it."""
    status = os.stat(folder)  # noqa: PTH116  a Path for each costs more than the call
    return status.st_dev, status.st_ino
