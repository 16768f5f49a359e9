"""MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN, read and downloaded by torchvision.

They are kept in memory as uint8.

Images for training and validation / for testing: 60,000 / 10,000 (MNIST, Fashion-MNIST), 50,000 /
10,000 (CIFAR), 73,257 / 26,032 (SVHN, whose ``extra`` part is not used).
"""

import http.client
import inspect
import socket
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torchvision import datasets

from advprune.datasets.base import ImageData
from advprune.datasets.images import Split
from advprune.datasets.published_files import Published, published
from advprune.datasets.wait_for_files import PATIENCE, bytes_in, hold_lock
from advprune.errors import UserError
from advprune.ranges import Held

DOWNLOAD_ERRORS = (
    OSError,
    RuntimeError,
    http.client.HTTPException,
    EOFError,
    tarfile.TarError,
    zlib.error,
)
#: Seconds that a server may say nothing for.
SILENCE = 60.0
READ_ERRORS = (OSError, RuntimeError, ValueError, AssertionError, TypeError, EOFError)


@dataclass(kw_only=True, eq=False)
class TorchvisionImages(ImageData):
    """A torchvision set; a subclass names torchvision's class. The options are ``ImageData``'s too.

    Args:
        root: folder that torchvision keeps its files in; they are downloaded there if they are
            missing.
    """

    source: ClassVar[type]
    root: str = "data"
    validation: Held = 5000

    published_tests = 10_000  # images of the official test set

    def __post_init__(self) -> None:
        super().__post_init__()
        self.folder = Path(self.root).expanduser()

    @property
    def test_count(self) -> int:
        """Return the number of test images: that of the official ones, unless others are given."""
        return self.published_tests if self.test is None else super().test_count

    def load(self) -> tuple[Split, Split]:
        """Return the official training and test images.

        Raises:
            UserError: if files are missing and cannot be downloaded, or are broken.
        """
        files = published(self.source, self.folder)
        lock = self.folder / f".{self.source.__name__}.lock"
        if (
            files.missing() or lock.exists()
        ):  # or another process may be at it, and files half written
            self._fetch(files, lock)
        return self._read(files, train=True), self._read(files, train=False)

    def _open(self, *, train: bool, download: bool) -> Any:
        by_flag = "train" in inspect.signature(self.source).parameters
        which = {"train": train} if by_flag else {"split": "train" if train else "test"}
        return self.source(root=str(self.folder), download=download, **which)

    def _fetch(self, files: Published, lock: Path) -> None:
        """Let one process download what is missing while others wait for it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with hold_lock(lock, sign=lambda: bytes_in(self.folder)) as mine:
                if files.missing() and not mine:
                    raise UserError(
                        f"another process has {lock} to download dataset={self.name}, and nothing "
                        f"came for {PATIENCE:.0f} s: end it, or remove that file, and give the "
                        "command again"
                    )
                if files.missing():
                    self._download(files)
        except DOWNLOAD_ERRORS as reason:
            if files.missing():  # else the folder is complete, and just not ours to write in
                raise UserError(files.explain_missing(self.name, reason)) from None

    def _download(self, files: Published) -> None:
        """Download the set with torchvision; leave nothing half fetched, also if interrupted."""
        damaged = files.damaged()
        if damaged:
            raise UserError(files.explain_damaged(damaged))
        complete, before = False, socket.getdefaulttimeout()
        socket.setdefaulttimeout(
            SILENCE
        )  # torchvision sets none, and would wait for a server that says nothing
        try:
            for train in (True, False):
                self._open(train=train, download=True)
            complete = True
        finally:
            socket.setdefaulttimeout(before)
            if not complete:
                files.remove_partial()

    def _read(self, files: Published, *, train: bool) -> Split:
        try:
            opened = self._open(train=train, download=False)
        except READ_ERRORS as reason:
            raise UserError(files.explain_damaged(files.damaged(), reason)) from None
        images = torch.as_tensor(np.asarray(opened.data))
        if images.ndim == 3:  # MNIST: no channel
            images = images.unsqueeze(1)
        elif images.shape[-1] == 3:  # CIFAR: channel last; SVHN has it second
            images = images.permute(0, 3, 1, 2)
        labels = opened.targets if hasattr(opened, "targets") else opened.labels
        return Split(images.contiguous(), torch.as_tensor(np.asarray(labels, dtype=np.int64)))


class MNIST(TorchvisionImages):
    """MNIST, LeCun, Cortes and Burges 1998, http://yann.lecun.com/exdb/mnist/."""

    source = datasets.MNIST


class FashionMNIST(TorchvisionImages):
    """Fashion-MNIST, Xiao, Rasul and Vollgraf 2017, https://arxiv.org/abs/1708.07747."""

    source = datasets.FashionMNIST


class CIFAR10(TorchvisionImages):
    """CIFAR-10, Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html."""

    source = datasets.CIFAR10


class CIFAR100(TorchvisionImages):
    """CIFAR-100 with its 100 fine labels, Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html."""

    source = datasets.CIFAR100


class SVHN(TorchvisionImages):
    """SVHN, cropped digits, Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers/."""

    source = datasets.SVHN
    published_tests = 26_032
