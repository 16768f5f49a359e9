"""Let the processes (ranks) that share one job exchange values and tensors.

Alone, which is how most jobs run, every function here returns its argument. Values travel over a
group of their own (gloo) that waits as long as it takes: one rank may queue for a stage for hours.
Tensors travel over the default group, NCCL between GPUs. ``torch.distributed`` does both; here is
only what this package says with it.
"""

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from advprune.errors import UserError
from advprune.runtime.provenance import code_checksum

T = TypeVar("T")
#: How long a rank waits for a word of another. One that dies is noticed by whoever started the
#: ranks.
PATIENCE = timedelta(days=365)


class RankFinished(Exception):  # noqa: N818 - not an error
    """Signal that this rank's part of a stage is over; rank 0 does the rest."""


class _State:
    """Hold the process's groups, as ``torch.distributed`` itself does: a process has one world."""

    talk: Any = None  # the group that values travel over
    apart = False


def join(backend: str, *, rank: int, size: int, address: str, port: int) -> None:
    """Meet the other ranks, once a process.

    Args:
        backend: ``nccl`` between GPUs, ``gloo`` between processors.
        rank: of this process, from 0.
        size: number of ranks.
        address: host of rank 0.
        port: of rank 0.
    """
    if not dist.is_initialized():
        dist.init_process_group(
            backend, init_method=f"tcp://{address}:{port}", rank=rank, world_size=size
        )
    if _State.talk is None:
        _State.talk = dist.new_group(backend="gloo", timeout=PATIENCE)


def leave() -> None:
    """Disconnect from the other ranks."""
    _State.talk, _State.apart = None, False
    if dist.is_initialized():
        dist.destroy_process_group()


def size() -> int:
    """Return how many ranks work together now; 1 for a process alone or without communication."""
    return 1 if _State.apart or _State.talk is None else dist.get_world_size()


def rank() -> int:
    """Return which rank this process is, from 0."""
    return 0 if size() == 1 else dist.get_rank()


def is_rank_zero() -> bool:
    """Return whether this process writes, prints and logs, also while ranks are apart."""
    return _State.talk is None or dist.get_rank() == 0


@contextmanager
def without_communication() -> Iterator[None]:
    """Inside, act as if alone: all ranks do the same, and nobody waits for anybody."""
    before, _State.apart = _State.apart, True
    try:
        yield
    finally:
        _State.apart = before


def rank_zero_continues(*, after_all: bool = False) -> None:
    """Let rank 0 alone go on, from here to the end of the stage.

    Args:
        after_all: first wait until every rank is here.

    Raises:
        RankFinished: on all other ranks.
    """
    if after_all:
        all_gather_object(None)
    if size() > 1 and not is_rank_zero():
        raise RankFinished
    _State.apart = True


def with_communication() -> None:
    """End ``rank_zero_continues``."""
    _State.apart = False


def broadcast_object(value: T) -> T:
    """Return rank 0's value on every rank."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=_State.talk)
    return box[0]


def all_gather_object(value: T) -> list[T]:
    """Return every rank's value, in the order of the ranks."""
    if size() == 1:
        return [value]
    box: list[Any] = [None] * size()
    dist.all_gather_object(box, value, group=_State.talk)
    return box


def agree(what: str, value: object, cure: str) -> None:
    """Check that all ranks have the same value.

    Args:
        what: it is, for the sentence: ``the test images``.
        value: of this rank, compared by ``==``.
        cure: the end of the sentence.

    Raises:
        UserError: on every rank, naming those that have another value than rank 0.
    """
    values = all_gather_object(value)
    others = [str(number) for number, other in enumerate(values) if other != values[0]]
    if others:
        who = f"rank {others[0]} has" if len(others) == 1 else f"ranks {', '.join(others)} have"
        raise UserError(f"{who} not the {what} that rank 0 has (their check-sums differ): {cure}")


class Checked(Protocol):
    """Have images, and a checksum of them."""

    def checksum(self) -> str:
        """Return the checksum of the images."""
        ...


def check_same_work(images: Checked) -> None:
    """Check that all ranks run the same code on the same images.

    Args:
        images: of this rank; not read if there is one rank.

    Raises:
        UserError: on every rank, naming those that don't.
    """
    if size() > 1:
        agree("code", code_checksum(), "install the same version of advprune on every node")
        agree(
            "images",
            images.checksum(),
            "give every node the same data, or dataset.root on a shared disk",
        )


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Return the sum over the ranks, a new tensor; no gradient flows through it."""
    if size() == 1:
        return tensor
    sent = tensor.detach().to(_device(), copy=True)
    dist.all_reduce(sent)
    return sent.to(tensor.device)


def _device() -> torch.device:
    """Return where tensors of the default group lie: NCCL takes none of the processor."""
    gpu = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return each tensor's mean over the ranks: the same bits on all of them."""
    return (
        {name: all_reduce_sum(tensor) / size() for name, tensor in tensors.items()}
        if size() > 1
        else tensors
    )


def checksum(tensors: Iterable[Tensor]) -> int:
    """Return the CRC-32 of the bytes of these tensors, in their order."""
    crc = 0
    for tensor in tensors:
        crc = zlib.crc32(
            tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data, crc
        )
    return crc


def broadcast_masks(masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return rank 0's masks on every rank, sent as bits and check-summed where they arrive.

    Args:
        masks: bool, of the same names and shapes on every rank, whose values count on rank 0 alone.

    Raises:
        UserError: naming the ranks on which something else arrived.
    """
    if size() == 1:
        return masks
    flat = torch.cat([mask.reshape(-1) for mask in masks.values()]).to(_device())
    powers = 2 ** torch.arange(8, dtype=torch.uint8, device=flat.device)
    padded = torch.nn.functional.pad(flat.to(torch.uint8), (0, -len(flat) % 8)).view(-1, 8)
    bits = (padded * powers).sum(1, dtype=torch.uint8)
    dist.broadcast(bits, src=0)
    here = (bits[:, None] & powers).ne(0).view(-1)[: len(flat)]
    agree(
        "masks",
        checksum([here]),
        "their connection or memory is faulty; the same command starts from a checkpoint",
    )
    parts = here.split([mask.numel() for mask in masks.values()])
    received = zip(masks.items(), parts, strict=True)
    return {name: part.view(mask.shape).to(mask.device) for (name, mask), part in received}
