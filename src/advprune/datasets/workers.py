"""Worker processes that decode batches ahead of their use; none is waited for without end."""

import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from advprune.errors import UserError

log = logging.getLogger(__name__)
#: Seconds without a batch until the workers count as stuck, on a disk that does not answer for
#: instance.
PATIENCE = 600.0
#: What torch says of a worker that died; the rest of its sentence says how.
DEAD = ("DataLoader worker", "exited unexpectedly")
CURE = "give dataset.workers=0, or fewer workers, or a smaller batch_size"

Sample = tuple[Tensor, int] | str
#: A batch as it travels from a worker: tensors in shared memory, or arrays through a pipe; or what
#: is wrong with it.
Parcel = tuple[Tensor, Tensor] | tuple[np.ndarray, np.ndarray] | str


def collate(samples: list[Sample]) -> Parcel:
    """Stack samples to one batch; or return the first error among them."""
    good = []
    for sample in samples:
        if isinstance(sample, str):
            return sample
        good.append(sample)
    images = torch.stack([image for image, _ in good])
    labels = torch.tensor([label for _, label in good])
    if torch.utils.data.get_worker_info() is None:
        return images, labels
    try:
        return images.share_memory_(), labels.share_memory_()
    except (
        RuntimeError,
        OSError,
    ):  # no shared memory is left; unnoticed, torch would lose the batch and wait for ever
        return images.numpy(), labels.numpy()


def batches(
    decoded: Dataset[Any], keys: list[Any], workers: int, *, pin: bool, patience: float = PATIENCE
) -> Iterator[tuple[Tensor, Tensor]]:
    """Decode batches, in the order of ``keys``.

    Args:
        decoded: gives a sample for a key.
        keys: of each batch, a list of them.
        workers: processes; 0 decodes here.
        pin: whether batches are put where a GPU fetches them from faster.
        patience: seconds to wait for a batch.

    Raises:
        UserError: what a sample says is wrong; or that a worker died, or gave nothing for too long.
    """
    loader: DataLoader[Any] = DataLoader(
        decoded,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        timeout=2 * patience if workers else 0,
        generator=torch.Generator(),  # else it draws from, and so moves, the run's own
    )
    before = set(multiprocessing.active_children())
    waited = _answered(
        iter(loader), patience, lambda: set(multiprocessing.active_children()) - before
    )
    piped = False
    for parcel in waited if workers else loader:
        if isinstance(parcel, str):
            raise UserError(parcel)
        images, labels = parcel
        if isinstance(images, np.ndarray) and not piped:
            piped = True
            log.warning(
                "/dev/shm is too small for the batches of dataset.workers=%d: they travel through "
                "pipes, which is slower; give it more (docker run --shm-size=8g), or %s",
                workers,
                CURE.removeprefix("give "),
            )
        yield torch.as_tensor(images), torch.as_tensor(labels)


def _answered(
    loader: Iterator[Parcel], patience: float, alive: Callable[[], set[Any]]
) -> Iterator[Parcel]:
    """Yield what the loader yields; its errors become one sentence.

    torch's timeout does not cover a worker that stops while it hands a batch over; one that is
    killed is noticed.

    Args:
        loader: of the worker processes.
        patience: seconds to wait for a batch.
        alive: the workers that were started for it.
    """
    late = threading.Event()
    try:
        yield from _watched(loader, patience, alive, late)
    except (RuntimeError, OSError, EOFError):  # the last two from a pipe nobody writes to any more
        # where a worker was killed for being late, torch's handler of dead children raises
        # wherever this thread is
        if not late.is_set():
            raise
        raise UserError(
            f"the workers that decode images gave nothing for {patience:.0f} s: is the "
            f"disk of dataset.root answering? If it is only slow, {CURE}"
        ) from None


def _watched(
    loader: Iterator[Parcel],
    patience: float,
    alive: Callable[[], set[Any]],
    late: threading.Event,
) -> Iterator[Parcel]:
    """Yield what the loader yields; kill its workers, and set ``late``, if that takes too long."""

    def give_up() -> None:
        late.set()
        # one that is stopped, or waits for a disk, would not end by being asked to
        for worker in alive():
            worker.kill()

    while True:
        watch = threading.Timer(patience, give_up)
        watch.daemon = True
        watch.start()
        try:
            parcel = next(loader)
        except StopIteration:
            return
        except (RuntimeError, OSError, EOFError) as error:
            reason = " ".join(str(error).split())
            dead = not isinstance(error, RuntimeError) or any(word in reason for word in DEAD)
            if late.is_set() or not dead:
                raise
            raise UserError(
                f"a worker that decodes images was ended from outside ({reason}), as the system "
                f"does when memory or /dev/shm is short: {CURE}"
            ) from None
        finally:
            watch.cancel()
        yield parcel
