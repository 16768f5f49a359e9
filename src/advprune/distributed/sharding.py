"""Give each rank its rows of a batch, and its part of random numbers drawn for the whole batch.

A batch of a job on several ranks is the batch that one process would have, dealt out row by row.
Whatever is random in a training step is drawn for the whole batch, with the same seed on all ranks,
and each rank takes its rows of it. So an image meets the same noise whatever the number of ranks.
Each step is seeded by itself, so that a run that goes on after a kill draws the same numbers.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """Select every ``ranks``-th row from ``rank`` on: this rank's part of what is dealt out."""

    rank: int = 0
    ranks: int = 1

    @property
    def whole(self) -> bool:
        """Return whether this is all there is."""
        return self.ranks == 1

    def count(self, whole: int) -> int:
        """Return how many of ``whole`` rows are this rank's."""
        return len(range(self.rank, whole, self.ranks))

    def of(self, whole: int) -> Tensor:
        """Return this rank's rows of ``whole``, int64 (count,).

        Where a batch has fewer rows than ranks, a rank without any borrows one, with weight 0: a
        step that all ranks take needs something to work on.
        """
        rows = torch.arange(whole)[self.rank :: self.ranks]
        return rows if len(rows) else torch.tensor([self.rank % whole])

    def weight(self, whole: int) -> float:
        """Return the factor of a mean over this rank's rows.

        With it, the mean over the ranks is the mean over all rows.
        """
        return self.count(whole) * self.ranks / whole


#: Of a process alone.
WHOLE = Shard()


@dataclass(frozen=True)
class _Batch:
    share: Shard
    whole: int


#: Every attack draws, and none has an argument for ranks.
_BATCH: ContextVar[_Batch | None] = ContextVar("batch", default=None)


@contextmanager
def of_batch(share: Shard, whole: int) -> Iterator[None]:
    """Inside, treat the images at hand as this rank's rows of a batch of ``whole``."""
    token = _BATCH.set(None if share.whole else _Batch(share, whole))
    try:
        yield
    finally:
        _BATCH.reset(token)


def _batch_of(count: int) -> tuple[_Batch, Tensor] | None:
    """Return the batch and which rows of it ``count`` images are; None if they are no shard."""
    batch = _BATCH.get()
    if batch is None:
        return None
    rows = batch.share.of(batch.whole)
    return (batch, rows) if len(rows) == count else None


def sharded_random(draw: Callable[[Tensor], Tensor], like: Tensor, *, axis: int = 0) -> Tensor:
    """Draw as for the whole batch, and return this rank's part.

    Args:
        draw: a tensor -> random numbers along its ``axis``, such as ``torch.rand_like``.
        like: a tensor with this rank's rows along ``axis``; only its shape, type and device count.
        axis: of the images.
    """
    shard = _batch_of(like.shape[axis])
    if shard is None:
        return draw(like)
    (batch, rows), shape = shard, list(like.shape)
    shape[axis] = batch.whole
    return draw(like.new_empty(shape)).index_select(axis, rows.to(like.device))


def place(count: int) -> tuple[Tensor, int]:
    """Return which rows of their batch ``count`` images are, int64 (count,), and its size."""
    shard = _batch_of(count)
    return (torch.arange(count), count) if shard is None else (shard[1], shard[0].whole)


def sample_rows(count: int, wanted: int, device: torch.device) -> tuple[Tensor, float]:
    """Draw ``wanted`` images of a batch with replacement; return those that are here.

    Args:
        count: images here.
        wanted: how many of the whole batch.
        device: of the returned indices.

    Returns:
        Their indices here, int64, and how much a mean over them counts beside a mean over the
        images here: 1 for a process alone, 0 where none is here.
    """
    shard = _batch_of(count)
    if shard is None:
        return torch.randint(count, (wanted,), device=device), 1.0
    share, whole = shard[0].share, shard[0].whole
    chosen = torch.randint(whole, (wanted,), device=device)
    here = chosen[chosen % share.ranks == share.rank] // share.ranks
    return here, len(here) / wanted / share.weight(whole) * share.ranks if len(here) else 0.0


def parts_of(share: Shard, counts: list[int]) -> list[Any]:
    """Return a rank's rows of each source of a batch, as an index.

    Args:
        share: the rank, and how many there are.
        counts: rows that each source has in the batch; the sources lie one after the other.
    """
    if share.whole:
        return [slice(None)] * len(counts)
    rows, parts, begins = share.of(sum(counts)), [], 0
    for count in counts:
        parts.append(rows[(rows >= begins) & (rows < begins + count)] - begins)
        begins += count
    return parts


def bounds(count: int, batch_size: int, least: int) -> list[tuple[int, int]]:
    """Return where each batch of a training epoch begins and ends in its order.

    A last batch of fewer than ``least`` images joins the one before it: BatchNorm cannot train on a
    single value.
    """
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] < least:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def chunks(
    indices: Tensor, batch_size: int, share: Shard, *, whole: bool
) -> list[tuple[Tensor, int]]:
    """Return a rank's evaluation batches: their indices, and the whole batch's size.

    Args:
        indices: int64 (M,), all images evaluated.
        batch_size: of a whole batch.
        share: the rank, and how many there are.
        whole: every so many-th batch and all of it; else its rows of every batch.
    """
    every = [(chunk, len(chunk)) for chunk in indices.split(batch_size)] if len(indices) else []
    if share.whole:
        return every
    return (
        every[share.rank :: share.ranks]
        if whole
        else [(chunk[share.of(n)], n) for chunk, n in every]
    )


def mixed_seed(*parts: int | str) -> int:
    """Derive one seed from several values, such as a run's seed and an epoch."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_step(seed: int, purpose: str, index: int) -> None:
    """Seed torch's global generators, on all devices, for one step of a run.

    Args:
        seed: of the run.
        purpose: of the step, such as ``train`` or ``attack``.
        index: of the step among those of its purpose.
    """
    number = mixed_seed(seed, purpose, index)
    if torch.accelerator.is_available():
        torch.manual_seed(number)
    else:
        # torch.manual_seed notes the call stack for each kind of device that may yet appear: 1 ms
        torch.default_generator.manual_seed(number)
