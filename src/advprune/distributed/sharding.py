"""Give each rank its rows of a batch, and its part of random numbers drawn for the whole batch.

A batch of a job on several ranks is the batch that one process would have, dealt out row by row.
Whatever is random in a training step is drawn for the whole batch, with the same seed on all ranks,
and each rank takes its rows of it. So an image meets the same noise whatever the number of ranks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


class _State:
    """Hold the batch for the process: every attack draws, and none has an argument for ranks."""

    batch: _Batch | None = None


@contextmanager
def of_batch(share: Shard, whole: int) -> Iterator[None]:
    """Inside, treat the images at hand as this rank's rows of a batch of ``whole``."""
    before, _State.batch = _State.batch, None if share.whole else _Batch(share, whole)
    try:
        yield
    finally:
        _State.batch = before


def _rows(count: int) -> Tensor | None:
    """Return which rows ``count`` images here are; None if they are no shard of a batch."""
    batch = _State.batch
    if batch is None:
        return None
    rows = batch.share.of(batch.whole)
    return rows if len(rows) == count else None


def sharded_random(draw: Callable[[Tensor], Tensor], like: Tensor, *, axis: int = 0) -> Tensor:
    """Draw as for the whole batch, and return this rank's part.

    Args:
        draw: a tensor -> random numbers along its ``axis``, such as ``torch.rand_like``.
        like: a tensor with this rank's rows along ``axis``; only its shape, type and device count.
        axis: of the images.
    """
    rows = _rows(like.shape[axis])
    if rows is None:
        return draw(like)
    assert _State.batch is not None
    shape = list(like.shape)
    shape[axis] = _State.batch.whole
    return draw(like.new_empty(shape)).index_select(axis, rows.to(like.device))


def place(count: int) -> tuple[Tensor, int]:
    """Return which rows of their batch ``count`` images are, int64 (count,), and its size."""
    rows = _rows(count)
    if rows is None:
        return torch.arange(count), count
    assert _State.batch is not None
    return rows, _State.batch.whole


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
    rows = _rows(count)
    if rows is None:
        return torch.randint(count, (wanted,), device=device), 1.0
    assert _State.batch is not None
    share, whole = _State.batch.share, _State.batch.whole
    chosen = torch.randint(whole, (wanted,), device=device)
    here = chosen[chosen % share.ranks == share.rank] // share.ranks
    return here, len(here) / wanted / share.weight(whole) * share.ranks if len(here) else 0.0
