"""Processes that decode: whatever becomes of them, the batches come or the job ends with one sentence."""

import os
import signal
import time

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from advprune.datasets import workers
from advprune.errors import UserError

KEYS = [[0, 1], [2, 3], [4]]
#: torch's handler of SIGCHLD raises in whatever line runs when a worker dies. Where that line is in
#: the loader's own destructor, Python can only print it; the job has ended with its sentence by
#: then.
TORCH_IS_TOLD_IN_ITS_DESTRUCTOR = pytest.mark.filterwarnings(
    "ignore:.*_MultiProcessingDataLoaderIter.__del__:pytest.PytestUnraisableExceptionWarning"
)


class Pictures(Dataset):
    """Sample i is an image of i's; the last one does something first, in its worker."""

    def __init__(self, before_last=None) -> None:
        self.before_last = before_last

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 4 and self.before_last is not None:
            self.before_last()
        return torch.full((1, 2, 2), index, dtype=torch.uint8), index


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def asleep() -> None:
    time.sleep(1000)


def labels(dataset: Dataset, count: int, patience: float = 60) -> list[int]:
    found = []
    for images, y in workers.batches(dataset, KEYS, count, pin=False, patience=patience):
        assert (images[:, 0, 0, 0] == y).all()
        found += y.tolist()
    return found


@pytest.mark.parametrize("count", [0, 1])
def test_without_shared_memory_batches_come_through_pipes_and_it_is_said_once(
    count, monkeypatch, caplog
):
    def refuse(_: Tensor) -> Tensor:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file: No space left on device (28)"
        )

    monkeypatch.setattr(Tensor, "share_memory_", refuse)
    assert labels(Pictures(), count) == [0, 1, 2, 3, 4]
    said = [
        record.message for record in caplog.records if "/dev/shm is too small" in record.message
    ]
    assert len(said) == count
    assert all("docker run --shm-size" in line and "dataset.workers=0" in line for line in said)


@TORCH_IS_TOLD_IN_ITS_DESTRUCTOR
def test_a_worker_that_is_killed_ends_the_job_with_a_sentence():
    with pytest.raises(
        UserError, match=r"was ended from outside .*: give dataset\.workers=0, or fewer workers"
    ):
        labels(Pictures(killed), 1)


@TORCH_IS_TOLD_IN_ITS_DESTRUCTOR
@pytest.mark.parametrize("how", [asleep, stopped])
def test_a_worker_that_gives_nothing_is_not_waited_for_for_ever(how):
    begun = time.monotonic()
    with pytest.raises(
        UserError, match=r"gave nothing for 1 s: is the disk of dataset\.root answering\?"
    ):
        labels(Pictures(how), 1, patience=1)
    assert time.monotonic() - begun < 30


def test_a_lock_is_waited_for_as_long_as_its_holder_gets_on(tmp_path):
    from filelock import FileLock

    from advprune.datasets.wait_for_files import bytes_in, hold_lock

    other = FileLock(tmp_path / "lock", is_singleton=False)
    signs = iter(range(100))

    def sign() -> int:
        found = next(signs)
        if found == 6:
            other.release()
        return found

    with other:
        with hold_lock(tmp_path / "lock", sign=sign, patience=0.2) as mine:
            assert mine  # later than its patience, for there were signs
        assert next(signs) > 6
    with other, hold_lock(tmp_path / "lock", sign=lambda: bytes_in(tmp_path), patience=0.2) as mine:
        assert not mine
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "file").write_bytes(bytes(7))
    assert bytes_in(tmp_path) >= 7
