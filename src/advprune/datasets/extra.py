"""Further training images from an .npz, such as pseudo-labelled ones.

As in robust self-training, https://arxiv.org/abs/1905.13736.
"""

from pathlib import Path

from advprune.datasets.array_split import split_of
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
    return split_of(
        images,
        labels,
        images_from=f"dataset.extra={path}",
        labels_from=f"dataset.extra={path}",
        num_classes=num_classes,
        channels=channels,
        image_size=image_size,
    )
