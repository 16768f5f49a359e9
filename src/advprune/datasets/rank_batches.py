"""How batches are dealt out to the ranks of a job, for loaders of images in memory and of files alike."""

from typing import Any

from torch import Tensor

from advprune.distributed.sharding import Shard


def parts_of(share: Shard, counts: list[int]) -> list[Any]:
    """A rank's rows of each source of a batch, as an index.

    Args:
        counts: rows that each source has in the batch; the sources lie one after the other.
    """
    if share.whole:
        return [slice(None)] * len(counts)
    rows, found, begins = share.of(sum(counts)), [], 0
    for count in counts:
        found.append(rows[(rows >= begins) & (rows < begins + count)] - begins)
        begins += count
    return found


def bounds(count: int, batch_size: int, least: int) -> list[tuple[int, int]]:
    """Where each batch of a training epoch begins and ends in its order.

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
    """What a rank sees of an evaluation: the indices of each of its batches, and how many the whole batch has.

    Args:
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


def tagged(
    x: Tensor, y: Tensor, chosen: Tensor, count: int, positions: bool, share: Shard
) -> tuple[Any, ...]:
    """An evaluation's batch: (x, y), with positions (x, y, positions), of a rank's rows (x, y, rows of the batch)."""
    if positions:
        return x, y, chosen
    return (x, y) if share.whole else (x, y, count)
