"""How batches are divided among the ranks of a job, for images in memory and in files."""

from typing import Any

from torch import Tensor

from advprune.distributed.sharding import Shard


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


def evaluation_batch(
    x: Tensor, y: Tensor, chosen: Tensor, count: int, positions: bool, share: Shard
) -> tuple[Any, ...]:
    """Return an evaluation batch: (x, y), (x, y, positions), or (x, y, rows of the batch)."""
    if positions:
        return x, y, chosen
    return (x, y) if share.whole else (x, y, count)
