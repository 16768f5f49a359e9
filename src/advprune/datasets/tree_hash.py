"""Hash what a folder of images holds, whatever place it is in.

Only the standard library is imported, as in ``listing.py``.
"""

from pathlib import Path

from advprune.datasets.listing import list_images
from advprune.datasets.manifest import Checksums, combined
from advprune.errors import UserError


def fingerprint(root: str | Path, split: str, sums: Checksums) -> str:
    """Return a hash of one split's images by class, name and content.

    It stays the same when the tree moves.

    Raises:
        UserError: as ``list_images``; or if an image cannot be read.
    """
    names, _ = list_images(root, split)
    return combined(names, sums.of(Path(root).expanduser() / split, names))


def arrays_fingerprint(root: str | Path, sums: Checksums) -> str:
    """Return a hash of a folder's .npy files, by name and content.

    Raises:
        UserError: if there are none.
    """
    folder = Path(root).expanduser()
    names = sorted(path.name for path in folder.glob("*.npy"))
    if not names:
        raise UserError(
            f"{root} has no .npy files; give attack.root=FOLDER, the one with labels.npy in it"
        )
    return combined(names, sums.of(folder, names))
