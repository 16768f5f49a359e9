"""The files of a torchvision set: which are missing or damaged, and the message about it.

torchvision says "not found or corrupted" and leaves the rest to the reader.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision.datasets.utils import check_integrity


@dataclass(frozen=True)
class Published:
    """Files of one set.

    Attributes:
        needed: what is read, with a check of each that says whether it is whole.
        downloads: the archives the needed ones come from, with a check of each; the needed ones if
            there are none.
        url: where the downloads are.
    """

    needed: dict[Path, Callable[[Path], bool]]
    downloads: dict[Path, Callable[[Path], bool]]
    url: str

    def missing(self) -> list[Path]:
        """Return the needed files that are not there."""
        return [path for path in self.needed if not path.is_file()]

    def damaged(self) -> list[Path]:
        """Return the files that are there but not whole."""
        return [
            path
            for path, whole in (self.needed | self.downloads).items()
            if path.is_file() and not whole(path)
        ]

    def remove_partial(self) -> None:
        """Remove what an interrupted download left; before it nothing was damaged."""
        for path in self.damaged():
            path.unlink()

    def explain_missing(self, name: str, reason: BaseException) -> str:
        """Return a sentence: what is missing, why, and which files to put where."""
        folder = next(iter(self.downloads)).parent
        why = " ".join(str(reason).split())
        files = ", ".join(path.name for path in self.downloads)
        return (
            f"dataset={name} is not in {folder} and could not be downloaded ({why[:200]}): put "
            f"{files} from {self.url} into {folder}, or say where the files are with dataset.root="
        )

    def explain_damaged(self, damaged: list[Path], reason: BaseException | None = None) -> str:
        """Return a sentence: which files are not whole, and the cure."""
        files = (
            " and ".join(map(str, damaged))
            if damaged
            else "one of " + ", ".join(map(str, self.needed))
        )
        why = f" ({' '.join(str(reason).split())[:200]})" if reason else ""
        return (
            f"truncated, corrupt or not as published{why}: {files}; delete and run again, or copy "
            f"anew from {self.url}"
        )


def published(source: Any, root: Path) -> Published:
    """Return the files of a torchvision class such as MNIST, CIFAR-10 or SVHN, under ``root``."""
    if hasattr(source, "resources"):
        raw = root / source.__name__ / "raw"
        archives = {raw / name: _md5(md5) for name, md5 in source.resources}
        return Published(
            {path.with_suffix(""): _idx for path in archives}, archives, source.mirrors[0]
        )
    if hasattr(source, "base_folder"):
        meta = [(source.meta["filename"], source.meta["md5"])]
        parts = [*source.train_list, *source.test_list, *meta]
        needed = {root / source.base_folder / name: _md5(md5) for name, md5 in parts}
        return Published(needed, {root / source.filename: _md5(source.tgz_md5)}, source.url)
    parts = [source.split_list[split] for split in ("train", "test")]
    needed = {root / name: _md5(md5) for _, name, md5 in parts}
    return Published(needed, needed, parts[0][0].rpartition("/")[0] + "/")


def _md5(expected: str) -> Callable[[Path], bool]:
    return lambda path: check_integrity(path, expected)


def _idx(path: Path) -> bool:
    """Return whether a file in MNIST's format is as long as its header says.

    Its published MD5 is of the archive.
    """
    with path.open("rb") as file:
        header = file.read(4)
        sizes = file.read(4 * header[3]) if len(header) == 4 else b""
    if header[:3] != b"\0\0\x08" or not sizes or len(sizes) != 4 * header[3]:
        return False
    total = 1
    for start in range(0, len(sizes), 4):
        total *= int.from_bytes(sizes[start : start + 4], "big")
    return path.stat().st_size == 4 + len(sizes) + total
