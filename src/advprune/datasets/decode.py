"""Decode small images once, with several threads, and cache them on disk as uint8."""

import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import Progress

from advprune.datasets.image_modes import eight_bits
from advprune.errors import UserError

#: What Pillow raises on files that are damaged, no images, or unreasonably large.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
BLOCK = 64  # images a thread takes at once: one at a time, the bar costs as much as decoding


def open_image(path: str | Path, channels: int) -> Image.Image:
    """Decode one image in 8 bits, in grey (1 channel) or colour (3), see ``image_modes.py``.

    Raises:
        UserError: naming the file, if it is not an image, not a whole one, or of a mode whose range
            is not known.
    """
    try:
        # a file, not its path: Pillow maps a TIFF of a path into memory, and garbles it if its
        # orientation is 5 to 8
        with Path(path).open("rb") as file, Image.open(file) as image:
            return eight_bits(image, channels)
    except UNREADABLE as reason:
        raise UserError(f"{path} cannot be read as an image: {_cause(path, reason)}") from None


def count_frames(path: str | Path) -> int:
    """Count the pictures in a file; 1 if it cannot be read, which decoding reports."""
    try:
        with Image.open(path) as image:
            return int(getattr(image, "n_frames", 1))
    except UNREADABLE:
        return 1


def _cause(path: str | Path, reason: BaseException) -> str:
    """Return why an image cannot be read, and the cure."""
    if isinstance(reason, FileNotFoundError):
        return "it is not there; a link may lead nowhere, or it was removed meanwhile"
    if isinstance(reason, PermissionError):
        return "this user may not read it; change its permissions (chmod a+r)"
    if isinstance(reason, UnidentifiedImageError):
        what = "no image that Pillow knows" if Path(path).stat().st_size else "empty"
        return f"it is {what}; replace it or delete it"
    if isinstance(reason, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"it has more than {most:,} pixels; make it smaller or delete it"
    words = " ".join(str(reason).split()) or type(reason).__name__
    return words if "; " in words else f"{words}; replace it or delete it"


def decode(paths: Sequence[str], *, channels: int, image_size: int, workers: int) -> np.ndarray:
    """Decode images that all are ``image_size`` pixels wide and high, with a progress bar.

    Returns:
        uint8 (N, C, H, W).

    Raises:
        UserError: naming the file, if one cannot be read or has another size.
    """
    images = np.empty((len(paths), channels, image_size, image_size), dtype=np.uint8)

    def read(index: int) -> None:
        image = open_image(paths[index], channels)
        if image.size != (image_size, image_size):
            raise UserError(
                f"{paths[index]} has {image.width}x{image.height} pixels: all images must have "
                f"dataset.image_size={image_size} on both sides (above 64, images of any size are "
                "cropped)"
            )
        images[index] = (
            np.asarray(image).reshape(image_size, image_size, channels).transpose(2, 0, 1)
        )

    def read_block(start: int) -> int:
        block = range(start, min(start + BLOCK, len(paths)))
        for index in block:
            read(index)
        return len(block)

    with (
        Progress(console=Console(stderr=True), transient=True) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        task = bar.add_task(f"decoding {len(paths)} images, once", total=len(paths))
        try:
            for done in pool.map(read_block, range(0, len(paths), BLOCK)):
                bar.advance(task, done)
        except UserError:
            pool.shutdown(cancel_futures=True)
            raise
    return images
