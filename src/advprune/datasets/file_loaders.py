"""Load batches of images that worker processes decode from files."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from advprune.datasets.files import Decoded, Files, Key
from advprune.datasets.loader import Epochs, Resumable, check_batches, evaluation_batch, pixels
from advprune.datasets.workers import batches
from advprune.distributed.sharding import WHOLE, Shard, bounds, chunks, mixed_seed


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
