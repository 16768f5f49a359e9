"""Batches of images that stay on the device as uint8: no worker, no copy, no transfer."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from advprune.datasets.images import CropFlip, Split
from advprune.distributed.sharding import WHOLE, Shard, bounds, chunks, mixed_seed, parts_of
from advprune.errors import UserError


class Epochs:
    """The epoch a loader is in; Lightning calls ``loader.sampler.set_epoch`` before each.

    Everything random in epoch e of seed s is drawn from ``generator()``: it depends on (s, e) and
    on nothing that ran before, so a run that resumes at epoch e sees what one that was not
    interrupted sees.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def generator(self) -> torch.Generator:
        """Return a new CPU generator of this epoch, so that all devices get the same images."""
        return torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch))


def passes(size: int, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` indices into ``size`` images, one shuffled pass after another: (count,)."""
    rounds = math.ceil(count / size)
    return torch.cat([torch.randperm(size, generator=generator) for _ in range(rounds)])[:count]


def evaluation_batch(
    x: Tensor, y: Tensor, chosen: Tensor, count: int, positions: bool, share: Shard
) -> tuple[Any, ...]:
    """Return an evaluation batch: (x, y), (x, y, positions), or (x, y, rows of the batch)."""
    if positions:
        return x, y, chosen
    return (x, y) if share.whole else (x, y, count)


def pixels(images: Tensor) -> Tensor:
    """Return uint8 grey levels as float32 in [0, 1]."""
    return images.to(torch.float32).div_(255)


class Resumable:
    """A loader that can begin within an epoch; checkpoints keep its state."""

    yielded, _first = 0, 0

    def __len__(self) -> int:
        raise NotImplementedError

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of the epoch were yielded; 0 at its end."""
        return {"given": self.yielded % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip that many batches in the next iteration, which goes through the same epoch."""
        self._first = state["given"]

    def begin(self) -> int:
        """Return the first batch of the iteration that begins now; the next one begins at 0."""
        self.yielded, self._first = self._first, 0
        return self.yielded


class TrainLoader(Resumable):
    """Shuffled, augmented batches; the last one may be smaller, none is dropped.

    A last image alone joins the batch before.

    Iterating gives (x float32 (B, C, H, W) in [0, 1], y int64 (B,)) on the device of ``split``, for
    the epoch that ``sampler`` is in. With extra images a batch has ``extra_share`` of them, and the
    set's own come first; an epoch is one pass over the set's own.

    Args:
        split: the training images.
        batch_size: of the set's own images.
        seed: of the run.
        augment: crop and flip; None for neither.
        extra: further (pseudo-labelled) images of the same shape; each epoch goes through them in a
            new order.
        extra_share: share of them in a batch, in (0, 1).
        repeats: how often each batch is given, as free adversarial training wants.
        share: of a rank among several: its rows of each batch, and a third entry: how many rows the
            whole batch has.
        least: rows that a last batch must have to stand alone, extra ones counted.
    """

    batch_sampler = None  # Lightning asks any loader that has a sampler for it

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        augment: CropFlip | None = None,
        extra: Split | None = None,
        extra_share: float = 0.5,
        repeats: int = 1,
        share: Shard = WHOLE,
        least: int = 2,
    ) -> None:
        check_batches(batch_size, repeats)
        self.split, self.extra, self.share = split, extra, share
        self.repeats, self.extra_share = repeats, extra_share
        least = math.ceil(least * (1 - extra_share)) if extra else least
        self.bounds = bounds(len(split), batch_size, least)
        self.augment = augment or CropFlip()
        self.sampler = Epochs(seed)

    def to(self, device: torch.device | str) -> "TrainLoader":
        """Move images and batches to ``device``."""
        self.split = self.split.to(device)
        self.extra = self.extra.to(device) if self.extra else None
        return self

    def __len__(self) -> int:
        return len(self.bounds) * self.repeats

    def __iter__(self) -> Iterator[Any]:
        # a generator draws at its first batch: Lightning makes the iterator before it says which
        # epoch it is
        generator, count, first = self.sampler.generator(), len(self.split), self.begin()
        sources = [self._drawn(self.split, count, generator)]
        if self.extra:
            sources.append(self._drawn(self.extra, self._extra_count(count), generator))
        for place, (start, stop) in enumerate(self.bounds):
            if (place + 1) * self.repeats <= first:
                continue
            cuts = [slice(start, stop), slice(self._extra_count(start), self._extra_count(stop))]
            counts = [len(order[cut]) for (_, order, _), cut in zip(sources, cuts, strict=False)]
            parts = [
                (split.take(order[cut][rows]), moves[cut][rows])
                for (split, order, moves), cut, rows in zip(
                    sources, cuts, parts_of(self.share, counts), strict=False
                )
            ]
            images = torch.cat([part.images for part, _ in parts])
            x = pixels(self.augment.apply(images, torch.cat([moves for _, moves in parts])))
            y = torch.cat([part.labels for part, _ in parts])
            for _ in range(max(first - place * self.repeats, 0), self.repeats):
                self.yielded += 1
                yield (x, y) if self.share.whole else (x, y, sum(counts))

    def _extra_count(self, own: int) -> int:
        """Return how many extra images come with so many of the set's own."""
        return round(own * self.extra_share / (1 - self.extra_share))

    def _drawn(
        self, split: Split, count: int, generator: torch.Generator
    ) -> tuple[Split, Tensor, Tensor]:
        """Return a source with an epoch's order and moves, brought to its device once."""
        order = passes(len(split), count, generator)
        moves = self.augment.draw(count, generator)
        return split, order.to(split.labels.device), moves.to(split.labels.device)


class EvalLoader:
    """Batches in order, never augmented: (x, y), or (x, y, positions int64 (B,)) in the set.

    Args:
        split: the images.
        batch_size: of a batch; the last one may be smaller.
        indices: int64 (M,): which images, in that order; None for all.
        positions: give each image's position in ``split``, too.
        share: of a rank among several. With positions, whole batches, for an attack's outcome may
            depend on its batch; else its rows of each, and a further entry: how many rows the whole
            batch has.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        indices: Tensor | None = None,
        positions: bool = False,
        share: Shard = WHOLE,
    ) -> None:
        check_batches(batch_size)
        self.split, self.batch_size, self.positions, self.share = (
            split,
            batch_size,
            positions,
            share,
        )
        self.indices = torch.arange(len(split)) if indices is None else indices

    def to(self, device: torch.device | str) -> "EvalLoader":
        """Move images and batches to ``device``."""
        self.split = self.split.to(device)
        return self

    def __len__(self) -> int:
        return len(self._chunks())

    def _chunks(self) -> list[tuple[Tensor, int]]:
        return chunks(self.indices, self.batch_size, self.share, whole=self.positions)

    def __iter__(self) -> Iterator[Any]:
        for chosen, count in self._chunks():
            chosen = chosen.to(self.split.labels.device)
            part = self.split.take(chosen)
            yield evaluation_batch(
                pixels(part.images), part.labels, chosen, count, self.positions, self.share
            )


def check_batches(batch_size: int, repeats: int = 1) -> None:
    """Check that the sizes give at least one batch.

    Raises:
        UserError: if either is below 1.
    """
    if batch_size < 1 or repeats < 1:
        raise UserError(
            f"batch_size={batch_size}, repeats={repeats} give no batch: both must be at least 1"
        )
