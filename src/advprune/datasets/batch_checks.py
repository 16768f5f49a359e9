"""Check the batches that a program gives, one by one."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from advprune.errors import UserError

#: An iterable of batches (images, labels) that can be gone through again and again.
Batches = Iterable[Any]
NORMALISE = (
    "pixels must be in [0, 1]; put the normalisation into the network, such as "
    "nn.Sequential(advprune.Normalize(mean, std), net)"
)


def images_and_labels(batch: object, *, classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Return a batch's images, float32 (N, C, H, W) in [0, 1], and labels, int64 (N,).

    Args:
        batch: what a loader yields.
        classes: labels must be below it; None does not check that.

    Raises:
        UserError: if it is anything but images and their labels.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        what = "images alone" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
        what = "a numpy array" if type(batch).__module__ == "numpy" else what
        what += f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise UserError(f"a batch is {what}: each must be a pair (images, labels) of tensors")
    x, y = batch
    _check_images(x)
    _check_labels(y, len(x), classes)
    return x.to(torch.float32), y.to(torch.int64)


def _check_images(x: object) -> None:
    if not isinstance(x, Tensor) or x.dim() != 4:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise UserError(f"images are {shape}: they must be one tensor (N, channels, side, side)")
    if not len(x) or x.shape[2] != x.shape[3]:
        raise UserError(f"images are {tuple(x.shape)}: they must be square, and at least one")
    if not x.is_floating_point():
        raise UserError(f"pixels are {x.dtype}: give floats in [0, 1], such as images / 255")
    low, high = float(x.min()), float(x.max())
    if low >= 0 and 1 < high <= 255:
        raise UserError(f"pixels go up to {high:g}: they must be in [0, 1], so divide them by 255")
    if not (low >= 0 and high <= 1):  # so that NaN is refused, too
        raise UserError(f"pixels go from {low:.3g} to {high:.3g}: {NORMALISE}")


def _check_labels(y: object, count: int, classes: int | None) -> None:
    if y is None:
        raise UserError("there are no labels: give one whole number an image beside the images")
    if not isinstance(y, Tensor) or y.is_floating_point() or y.dim() != 1 or len(y) != count:
        what = f"{tuple(y.shape)} {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise UserError(f"labels are {what}: they must be one whole number an image, ({count},)")
    if classes is not None and not bool(((y >= 0) & (y < classes)).all()):
        raise UserError(
            f"labels go from {int(y.min())} to {int(y.max())}: the network has {classes} classes, "
            f"so they must be in 0 to {classes - 1}"
        )


def collect(batches: Batches) -> tuple[Tensor, Tensor]:
    """Return all images and labels of the batches, on the CPU.

    Raises:
        UserError: if a batch cannot be used, or there is none.
    """
    pairs = [images_and_labels(batch) for batch in batches]
    if not pairs:
        raise UserError("there is no batch: give at least one pair (images, labels)")
    return torch.cat([x.cpu() for x, _ in pairs]), torch.cat([y.cpu() for _, y in pairs])
