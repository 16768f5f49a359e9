"""Turn arrays of a user's file into a split of a set, if they fit it."""

import numpy as np
import torch

from advprune.datasets.arrays import Array
from advprune.datasets.images import Split
from advprune.errors import UserError


def split_of(
    images: Array,
    labels: Array,
    *,
    images_from: str,
    labels_from: str,
    num_classes: int,
    channels: int,
    image_size: int,
) -> Split:
    """Return images and labels as a split.

    Args:
        images: uint8 (N, H, W, C) or (N, C, H, W).
        labels: whole numbers (N,).
        images_from: what the user calls the file of the images.
        labels_from: what the user calls that of the labels.
        num_classes: of the set.
        channels: of the set.
        image_size: of the set, in pixels.

    Raises:
        UserError: naming the file, what it holds and what it must hold.
    """
    own = (channels, image_size, image_size)
    if images.shape[1:] == (image_size, image_size, channels):
        images = images.transpose(0, 3, 1, 2)
    if images.dtype != np.uint8 or images.shape[1:] != own or not len(images):
        raise UserError(
            f"{images_from} holds images of shape {images.shape} and type {images.dtype}: they "
            f"must be uint8, {channels} x {image_size} x {image_size} as the set's own are"
        )
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{labels_from} holds labels of shape {labels.shape} and type {labels.dtype}: they "
            f"must be one whole number for each of the {len(images)} images"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise UserError(
            f"{labels_from} holds labels from {labels.min()} to {labels.max()}: they must be 0 to "
            f"{num_classes - 1}"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    return Split(pixels, torch.from_numpy(labels.astype(np.int64)))
