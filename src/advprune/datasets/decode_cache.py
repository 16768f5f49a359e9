"""Keep decoded images on disk, so that the next run reads them without decoding."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from advprune.datasets.arrays import load_array
from advprune.datasets.decode import decode
from advprune.datasets.wait_for_files import hold_lock
from advprune.errors import UserError
from advprune.runtime.safe_files import write_atomically

log = logging.getLogger(__name__)
#: What the file with the checksum of a cached one is called.
SUM = ".sha256"
#: Raised whenever what ``eight_bits`` makes of an image changes: no older cache is taken for it.
READING = 2


def decode_cached(
    paths: Sequence[str], *, cache: str | None, channels: int, image_size: int, workers: int
) -> np.ndarray:
    """Decode images, or read them from the cache folder if it has the same files.

    The same are those of equal path, size and times. Of several processes one decodes.

    Raises:
        UserError: as ``decode``; or if the cache folder cannot be written.
    """
    if cache is None:
        return decode(paths, channels=channels, image_size=image_size, workers=workers)
    folder = Path(cache).expanduser()
    stored = folder / f"{_stamp(paths, channels, image_size)}.npy"
    shape = (len(paths), channels, image_size, image_size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = stored.with_suffix(".lock")
        with hold_lock(lock, sign=lambda: None) as mine:
            images = _stored(stored, shape)
            if images is None:
                if not mine:  # the other one may be stuck, and decoding twice does no harm
                    log.warning("%s is held: the images are decoded here, too", lock)
                images = decode(paths, channels=channels, image_size=image_size, workers=workers)
                _store(stored, images)
    except OSError as reason:
        raise UserError(
            f"dataset.cache={cache} cannot be written ({reason}): give another folder, or null"
        ) from None
    return images


def _store(path: Path, images: np.ndarray) -> None:
    """Write the images, and then their checksum beside them."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.save(file, images)
    part.replace(path)
    write_atomically(path.with_suffix(SUM), _checksum(images), durable=False)


def _stored(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    if not path.is_file():
        return None
    try:
        images = load_array(path)
        whole = images.shape == shape and images.dtype == np.uint8 and images.flags.c_contiguous
        if whole and _checksum(images) == path.with_suffix(SUM).read_text():
            return images
        reason = "it is not what was written"
    except (ValueError, OSError) as error:
        reason = str(error)
    log.warning("%s is damaged (%s): the images are decoded again", path, reason)
    return None


def _checksum(images: np.ndarray) -> str:
    return hashlib.sha256(images.data).hexdigest()


def _stamp(paths: Sequence[str], channels: int, image_size: int) -> str:
    digest = hashlib.sha256(f"{READING}/{channels}/{image_size}\n".encode())
    for path in paths:
        status = os.stat(path)  # noqa: PTH116  60,000 of them: a Path each would take as long again
        times = f"{status.st_mtime_ns}\0{status.st_ctime_ns}"  # the second cannot be set back
        digest.update(f"{path}\0{status.st_size}\0{times}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]
