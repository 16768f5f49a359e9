"""The files of a class-per-folder tree: root/{train,test or val}/<class>/<image>, images in subfolders of a class too.

Only the standard library is imported, so that a stage's key can be made of a tree without loading torch.
"""

import os
from pathlib import Path

from advprune.datasets.manifest import Checksums, joined
from advprune.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LAYOUT = "lay it out as <root>/train/<class>/<image> and <root>/test/<class>/<image> (or val/), and give dataset.root="


def class_names(root: str | Path) -> list[str]:
    """The classes of the tree: the folders of ``root/train``, sorted. A class's label is its place in this list.

    Raises:
        UserError: if there are none.
    """
    return _folders(Path(root).expanduser() / "train")


def test_folder(root: str | Path) -> str:
    """Where the test images are: ``test``, else ``val``.

    Raises:
        UserError: if there is neither.
    """
    for name in ("test", "val"):
        if (Path(root).expanduser() / name).is_dir():
            return name
    raise UserError(f"{root} has neither a folder test nor a folder val: {LAYOUT}")


def list_images(root: str | Path, split: str) -> tuple[list[str], list[int]]:
    """All images of one split, class by class and sorted within.

    Returns:
        Paths relative to ``root/split``, with forward slashes, and their labels.

    Raises:
        UserError: if there are no classes, not the training set's, or one without images.
    """
    folder, classes = Path(root).expanduser() / split, class_names(root)
    odd = set(classes) ^ set(_folders(folder))
    if odd:
        raise UserError(
            f"{folder} has not the same class folders as train: {', '.join(sorted(odd)[:5])} "
            f"({len(odd)} in all) is in one of them only; give both the same"
        )
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(_images(folder / name, f"{name}/"))
        if not found:
            raise UserError(
                f"{folder / name} has no image ({', '.join(SUFFIXES)}): put some there, or remove the folder"
            )
        paths += found
        labels += [label] * len(found)
    return paths, labels


def fingerprint(root: str | Path, split: str, sums: Checksums) -> str:
    """A hash of one split's images, by class, name and content, that stays the same when the tree moves.

    Raises:
        UserError: as ``list_images``; or if an image cannot be read.
    """
    names, _ = list_images(root, split)
    return joined(names, sums.of(Path(root).expanduser() / split, names))


def arrays_fingerprint(root: str | Path, sums: Checksums) -> str:
    """A hash of a folder's .npy files, by name and content.

    Raises:
        UserError: if there are none.
    """
    folder = Path(root).expanduser()
    names = sorted(path.name for path in folder.glob("*.npy"))
    if not names:
        raise UserError(f"{root} has no .npy files; give attack.root=FOLDER, the one with labels.npy in it")
    return joined(names, sums.of(folder, names))


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not there: {LAYOUT}")
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise UserError(f"{folder} has no class folders: {LAYOUT}")
    return names


def _images(folder: Path | str, prefix: str) -> list[str]:
    found: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                found += _images(entry.path, f"{prefix}{entry.name}/")
            elif entry.name.lower().endswith(SUFFIXES):
                found.append(prefix + entry.name)
    return found
