"""Further training images from an .npz, such as pseudo-labelled ones.

As in robust self-training, https://arxiv.org/abs/1905.13736.
"""

from pathlib import Path

import numpy as np
import torch

from advprune.datasets.arrays import load_arrays
from advprune.datasets.images import Split
from advprune.errors import UserError

LAYOUT = "images uint8 (N, H, W, C) or (N, C, H, W) and labels int (N,)"


def load_extra(path: str, *, num_classes: int, channels: int, image_size: int) -> Split:
    """Read an ``.npz`` with ``images`` uint8 (N, H, W, C) or (N, C, H, W), ``labels`` int (N,).

    Args:
        path: of the file.
        num_classes: of the set.
        channels: of the set.
        image_size: of the set, in pixels.

    Raises:
        UserError: if the file is missing, broken or laid out otherwise, or its images or labels
            don't fit the set.
    """
    if not Path(path).is_file():
        raise UserError(
            f"dataset.extra={path} is not there: give an .npz with {LAYOUT}, or null for none"
        )
    try:
        images, labels = load_arrays(Path(path), ("images", "labels"))
    except KeyError as missing:
        raise UserError(
            f"dataset.extra={path} does not fit, {missing}: it must hold {LAYOUT}"
        ) from None
    except (OSError, ValueError) as reason:
        raise UserError(
            f"dataset.extra={path} cannot be read ({reason}): give an .npz with {LAYOUT}"
        ) from None
    if images.shape[1:] == (image_size, image_size, channels):
        images = images.transpose(0, 3, 1, 2)
    if (
        images.dtype != np.uint8
        or images.shape[1:] != (channels, image_size, image_size)
        or not len(images)
    ):
        raise UserError(
            f"dataset.extra={path} holds images of shape {images.shape} and type {images.dtype}: "
            f"they must be uint8, {channels} x {image_size} x {image_size} as the set's own are"
        )
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"dataset.extra={path} holds labels of shape {labels.shape} and type {labels.dtype}: "
            f"give {LAYOUT}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise UserError(
            f"dataset.extra={path} holds labels from {labels.min()} to {labels.max()}: "
            f"they must be 0 to {num_classes - 1}"
        )
    return Split(
        torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64))
    )
