"""Images too large for memory, such as ImageNet's, decoded by worker processes.

Training takes a random part of each (8 to 100 % of its area, Szegedy et al.,
https://arxiv.org/abs/1409.4842), resized, and mirrors every second; evaluation resizes the shorter
side to 8/7 of ``size`` and crops the middle (224 of 256).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from advprune.datasets.decode import open_image
from advprune.datasets.loader import Epochs, Resumable, check_batches, evaluation_batch, pixels
from advprune.datasets.workers import batches
from advprune.distributed.sharding import WHOLE, Shard, bounds, chunks, mixed_seed
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


def stream(
    decoded: Decoded, keys: list[list[Key]], workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield decoded batches: (x float32 (B, C, S, S) in [0, 1], y int64 (B,)).

    They are decoded ahead of their use and lie on the files' device.
    """
    device = torch.device(decoded.files.device)
    for images, labels in batches(decoded, keys, workers, pin=device.type == "cuda"):
        yield pixels(images.to(device, non_blocking=True)), labels.to(device, non_blocking=True)


class FileTrainLoader(Resumable):
    """A ``TrainLoader`` of files.

    Each image's crop depends on (seed, epoch, image), not on the number of workers.
    """

    batch_sampler = None

    def __init__(
        self,
        files: Files,
        *,
        batch_size: int,
        seed: int,
        flip: bool,
        workers: int,
        repeats: int = 1,
        share: Shard = WHOLE,
        least: int = 2,
    ) -> None:
        check_batches(batch_size, repeats)
        self.share = share
        self.decoded = Decoded(files, training=True, flip=flip)
        self.workers, self.repeats = workers, repeats
        self.bounds = bounds(len(files), batch_size, least)
        self.sampler = Epochs(seed)

    def __len__(self) -> int:
        return len(self.bounds) * self.repeats

    def __iter__(self) -> Iterator[Any]:
        # of what was given before: batches, and repeats of one
        whole, within = divmod(self.begin(), self.repeats)
        order = torch.randperm(len(self.decoded.files), generator=self.sampler.generator()).tolist()
        seeds = (self.sampler.seed, self.sampler.epoch)
        keys: list[Key] = [(index, mixed_seed(*seeds, index)) for index in order]
        left = [keys[start:stop] for start, stop in self.bounds[whole:]]
        mine = [[batch[row] for row in self.share.of(len(batch)).tolist()] for batch in left]
        images = stream(self.decoded, mine, self.workers)
        for place, (all_rows, (x, y)) in enumerate(zip(left, images, strict=True)):
            for _ in range(within if place == 0 else 0, self.repeats):
                self.yielded += 1
                yield (x, y) if self.share.whole else (x, y, len(all_rows))


class FileEvalLoader:
    """An ``EvalLoader`` of files."""

    def __init__(
        self,
        files: Files,
        *,
        batch_size: int,
        workers: int,
        indices: Tensor | None = None,
        positions: bool = False,
        share: Shard = WHOLE,
    ) -> None:
        check_batches(batch_size)
        self.share = share
        self.decoded = Decoded(files, training=False, flip=False)
        self.batch_size, self.workers, self.positions = batch_size, workers, positions
        self.indices = torch.arange(len(files)) if indices is None else indices

    def __len__(self) -> int:
        return len(self._chunks())

    def _chunks(self) -> list[tuple[Tensor, int]]:
        return chunks(self.indices, self.batch_size, self.share, whole=self.positions)

    def __iter__(self) -> Iterator[Any]:
        mine = self._chunks()
        keys: list[list[Key]] = [[(index, None) for index in chunk.tolist()] for chunk, _ in mine]
        images = stream(self.decoded, keys, self.workers)
        for (chunk, count), (x, y) in zip(mine, images, strict=True):
            yield evaluation_batch(x, y, chunk.to(x.device), count, self.positions, self.share)
