"""Other test images for a set, from two .npy files, such as CIFAR-10.1.

https://arxiv.org/abs/1806.00451
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advprune.datasets.array_split import split_of
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
    return split_of(
        _load(images_path),
        _load(labels_path),
        images_from=str(images_path),
        labels_from=str(labels_path),
        num_classes=num_classes,
        channels=channels,
        image_size=image_size,
    )


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
