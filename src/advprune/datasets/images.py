"""Hold images in memory, divide them into splits, and crop and flip batches of them.

Which images train, validate and test are functions of the data alone, never of a run's seed.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from advprune.errors import UserError
from advprune.ranges import refuse_outside


@dataclass(frozen=True)
class Split:
    """Images in memory.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Split":
        """Return the images at ``indices`` (M,), in that order."""
        indices = indices.to(self.labels.device)
        return Split(self.images[indices], self.labels[indices])

    def to(self, device: torch.device | str) -> "Split":
        """Return the same images on ``device``; no copy if they are there."""
        return Split(self.images.to(device), self.labels.to(device))

    def identity(self) -> list[Tensor]:
        """Return the tensors by which ranks check that they have the same images."""
        return [self.labels, self.images]


def hold_out(labels: Tensor, amount: int | float, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Hold out a class-stratified part of a set.

    Args:
        labels: int64 (N,).
        amount: how many images (an int), or the share of them (a float in [0, 1)).
        seed: of the cut. Not a run's seed: every run holds out the same images.

    Returns:
        Sorted indices of the images that stay, and of the ``amount`` that are held out. The
        classes' counts among the latter are proportional to their counts in the set, rounded by
        largest remainder.

    Raises:
        UserError: if ``amount`` is negative or leaves nothing.
    """
    total = len(labels)
    count = amount if isinstance(amount, int) else round(amount * total) if 0 <= amount < 1 else -1
    if isinstance(amount, bool) or not 0 <= count < total:
        raise UserError(
            f"dataset.validation={amount} cannot be held out of {total} images: "
            f"give a number of images from 0 to {total - 1}, or a share in [0, 1) such as 0.1"
        )
    classes = labels.numpy()
    sizes = np.bincount(classes)
    exact = sizes * count
    quotas = exact // total
    largest = np.argsort(-(exact % total), kind="stable")[: count - quotas.sum()]
    quotas[largest] += 1
    # numpy promises RandomState's stream for good; torch's may change, and then the split would
    random = np.random.RandomState(seed)
    held = np.zeros(total, dtype=bool)
    for label, quota in enumerate(quotas):
        held[random.permutation(np.flatnonzero(classes == label))[:quota]] = True
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))


def subset(
    n_total: int, images: int | None, seed: int = 0, *, option: str = "attack.images"
) -> Tensor:
    """Choose ``images`` of ``n_total`` images.

    Smaller subsets are within larger ones: they are the first of one fixed shuffle.

    Args:
        n_total: images there are.
        images: images wanted; None for all.
        seed: of the shuffle.
        option: what the user wrote the number in, for the message.

    Returns:
        int64 (images,), sorted.

    Raises:
        UserError: if ``images`` is not between 1 and ``n_total``.
    """
    if images is None:
        return torch.arange(n_total)
    if isinstance(images, bool) or not isinstance(images, int) or not 1 <= images <= n_total:
        raise UserError(
            f"{option}={images} is not possible: give a number from 1 to {n_total}, or null for "
            "all images"
        )
    return torch.from_numpy(np.sort(np.random.RandomState(seed).permutation(n_total)[:images]))


class CropFlip:
    """Pad with zeros, crop back to size at a random place, mirror with probability 1/2.

    A batch is moved on its device, and each image differently, where torchvision's v2 transforms
    move all images of a batch alike.

    Args:
        crop: pixels of padding on each side; the crop is then one of (2 crop + 1)^2 shifts. 0: no
            crop.
        flip: mirror left-right with probability 1/2. Not for digits and letters: a mirrored 2 is no
            2.

    Raises:
        UserError: if ``crop`` is negative.
    """

    def __init__(self, *, crop: Annotated[int, Ge(0), Le(1024)] = 0, flip: bool = False) -> None:
        refuse_outside(CropFlip, crop=crop)
        self.crop, self.flip = crop, flip

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw moves for ``count`` images: int64 (count, 3), rows of (down, right, mirrored).

        ``down`` and ``right`` are where in the padded image the crop starts, 0 to 2 crop. They are
        drawn on the generator's device, so that a CPU generator gives the same moves to every
        accelerator.
        """
        shifts = torch.randint(2 * self.crop + 1, (count, 2), generator=generator)
        mirrored = torch.randint(2, (count, 1), generator=generator)
        return torch.cat([shifts, mirrored if self.flip else torch.zeros_like(mirrored)], dim=1)

    def apply(self, images: Tensor, moves: Tensor) -> Tensor:
        """Move each image (N, C, H, W) by its row of ``moves`` (N, 3).

        Shape, dtype and device stay.
        """
        if not self.crop and not self.flip:
            return images
        n, c, h, w = images.shape
        padded = F.pad(images, (self.crop,) * 4)
        down, right, mirrored = moves.unbind(1)
        rows = down[:, None] + torch.arange(h, device=images.device)
        columns = torch.arange(w, device=images.device).expand(n, w)
        columns = right[:, None] + torch.where(mirrored[:, None].bool(), columns.flip(1), columns)
        source = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).view(n, 1, h * w)
        return padded.flatten(2).gather(2, source.expand(n, c, h * w)).view(n, c, h, w)
