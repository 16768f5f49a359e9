"""Other test images for a set, from two .npy files, such as CIFAR-10.1.

https://arxiv.org/abs/1806.00451
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from advprune.datasets.arrays import load_array
from advprune.datasets.images import Split
from advprune.errors import UserError

LAYOUT = "X_data.npy, uint8 (N, H, W, C), with X_labels.npy, int (N,), beside it"


def load_test(path: str, *, num_classes: int, channels: int, image_size: int) -> Split:
    """Read ``…data.npy`` and the labels beside it.

    Args:
        path: of the images; the labels' has ``labels`` for ``data``.
        num_classes: of the set.
        channels: of the set.
        image_size: of the set, in pixels.

    Raises:
        UserError: naming the file that is missing, damaged or does not fit the set.
    """
    images_path = Path(path).expanduser()
    labels_path = images_path.with_name(images_path.name.replace("data", "labels"))
    if labels_path == images_path:
        raise UserError(f"dataset.test={path} must be named …data.npy: give {LAYOUT}")
    images, labels = _load(images_path), _load(labels_path)
    if (
        images.dtype != np.uint8
        or images.shape[1:] != (image_size, image_size, channels)
        or not len(images)
    ):
        raise UserError(
            f"{images_path} holds {images.dtype} {images.shape}: it must be uint8 "
            f"(N, {image_size}, {image_size}, {channels}), as the set's own test images are"
        )
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{labels_path} holds {labels.dtype} {labels.shape} for {len(images)} images: give "
            f"{LAYOUT}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise UserError(
            f"{labels_path} has labels from {labels.min()} to {labels.max()}, not 0 to "
            f"{num_classes - 1}"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return Split(pixels, torch.from_numpy(labels.astype(np.int64)))


def _load(path: Path) -> NDArray[np.generic]:
    try:
        return load_array(path)
    except FileNotFoundError:
        raise UserError(
            f"there is no file {path}: give dataset.test={LAYOUT}; or null for the set's own"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or no .npy file ({error}); copy or download it again"
        ) from None
