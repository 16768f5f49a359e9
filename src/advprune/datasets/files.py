"""Images too large for memory, such as ImageNet's, each decoded when it is used.

Training takes a random part of each (8 to 100 % of its area, Szegedy et al.,
https://arxiv.org/abs/1409.4842), resized, and mirrors every second; evaluation resizes the shorter
side to 8/7 of ``size`` and crops the middle (224 of 256).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from advprune.datasets.decode import open_image
from advprune.errors import UserError

Key = tuple[int, int | None]


@dataclass(frozen=True)
class Files:
    """Images on disk, as ``Split`` is of images in memory.

    Attributes:
        paths: N of them.
        labels: int64 (N,).
        channels: 1 or 3, that they are decoded to.
        size: height and width they are cropped to.
    """

    paths: list[str]
    labels: Tensor
    channels: int
    size: int
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Tensor) -> "Files":
        """Return the images at ``indices`` (M,), in that order."""
        paths = [self.paths[index] for index in indices.tolist()]
        return Files(paths, self.labels[indices], self.channels, self.size, self.device)

    def to(self, device: torch.device | str) -> "Files":
        """Return the same images, with their batches on ``device``."""
        return Files(self.paths, self.labels, self.channels, self.size, device)

    def identity(self) -> list[Tensor]:
        """Return labels and names, by which ranks check that they have the same images.

        Reading all images takes long.
        """
        names = "\n".join(path.rsplit("/", 1)[-1] for path in self.paths)
        encoded = bytearray(names.encode("utf-8", "surrogateescape"))
        return [self.labels, torch.frombuffer(encoded, dtype=torch.uint8)]


class Decoded(Dataset[Any]):
    """Decode one image in a worker: (index, seed or None) -> (uint8 (C, S, S), label).

    An image that cannot be read gives a sentence in their place.
    """

    def __init__(self, files: Files, *, training: bool, flip: bool) -> None:
        self.files = files
        train = [v2.RandomResizedCrop(files.size), v2.RandomHorizontalFlip(0.5 if flip else 0.0)]
        test = [v2.Resize(files.size * 8 // 7), v2.CenterCrop(files.size)]
        self.transform = v2.Compose([*(train if training else test), v2.PILToTensor()])

    def __getitem__(self, key: Key) -> tuple[Tensor, int] | str:
        index, seed = key
        try:
            image = open_image(self.files.paths[index], self.files.channels)
        except UserError as error:
            # raised in a worker it would reach the user as a traceback in a traceback
            return str(error)
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.manual_seed(seed)
            return self.transform(image), int(self.files.labels[index])
