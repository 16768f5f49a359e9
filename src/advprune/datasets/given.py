"""Serve batches that a program gives: any iterable of (images, labels), checked one by one."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from advprune.datasets.loader import Resumable
from advprune.errors import UserError

#: An iterable of batches (images, labels) that can be gone through again and again.
Batches = Iterable[Any]
NORMALISE = (
    "pixels must be in [0, 1]; put the normalisation into the network, such as "
    "nn.Sequential(advprune.Normalize(mean, std), net)"
)


def images_and_labels(batch: object, *, classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Return a batch's images, float32 (N, C, H, W) in [0, 1], and labels, int64 (N,).

    Args:
        batch: what a loader yields.
        classes: labels must be below it; None does not check that.

    Raises:
        UserError: if it is anything but images and their labels.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        what = "images alone" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
        what = "a numpy array" if type(batch).__module__ == "numpy" else what
        what += f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise UserError(f"a batch is {what}: each must be a pair (images, labels) of tensors")
    x, y = batch
    _check_images(x)
    _check_labels(y, len(x), classes)
    return x.to(torch.float32), y.to(torch.int64)


def _check_images(x: object) -> None:
    if not isinstance(x, Tensor) or x.dim() != 4:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise UserError(f"images are {shape}: they must be one tensor (N, channels, side, side)")
    if not len(x) or x.shape[2] != x.shape[3]:
        raise UserError(f"images are {tuple(x.shape)}: they must be square, and at least one")
    if not x.is_floating_point():
        raise UserError(f"pixels are {x.dtype}: give floats in [0, 1], such as images / 255")
    low, high = float(x.min()), float(x.max())
    if low >= 0 and 1 < high <= 255:
        raise UserError(f"pixels go up to {high:g}: they must be in [0, 1], so divide them by 255")
    if not (low >= 0 and high <= 1):  # so that NaN is refused, too
        raise UserError(f"pixels go from {low:.3g} to {high:.3g}: {NORMALISE}")


def _check_labels(y: object, count: int, classes: int | None) -> None:
    if y is None:
        raise UserError("there are no labels: give one whole number an image beside the images")
    if not isinstance(y, Tensor) or y.is_floating_point() or y.dim() != 1 or len(y) != count:
        what = f"{tuple(y.shape)} {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise UserError(f"labels are {what}: they must be one whole number an image, ({count},)")
    if classes is not None and not bool(((y >= 0) & (y < classes)).all()):
        raise UserError(
            f"labels go from {int(y.min())} to {int(y.max())}: the network has {classes} classes, "
            f"so they must be in 0 to {classes - 1}"
        )


def collect(batches: Batches) -> tuple[Tensor, Tensor]:
    """Return all images and labels of the batches, on the CPU.

    Raises:
        UserError: if a batch cannot be used, or there is none.
    """
    pairs = [images_and_labels(batch) for batch in batches]
    if not pairs:
        raise UserError("there is no batch: give at least one pair (images, labels)")
    return torch.cat([x.cpu() for x, _ in pairs]), torch.cat([y.cpu() for _, y in pairs])


class GivenLoader(Resumable):
    """Go through the batches that a program gave, in its order.

    Args:
        batches: of the program.
        classes: that labels are below.
        device: to bring them to.
        repeats: how often each batch is yielded in a row.
    """

    def __init__(
        self, batches: Batches, *, classes: int, device: torch.device | str, repeats: int = 1
    ) -> None:
        self.batches, self.classes = batches, classes
        self.device, self.repeats = device, repeats

    def __len__(self) -> int:
        try:
            count = len(self.batches)  # type: ignore[arg-type]
        except TypeError:  # as of an iterable without a length
            count = sum(1 for _ in self.batches)
        return count * self.repeats

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first = self.begin()
        for place, batch in enumerate(self.batches):
            x, y = images_and_labels(batch, classes=self.classes)
            for _ in range(max(first - place * self.repeats, 0), self.repeats):
                self.yielded += 1
                yield x.to(self.device), y.to(self.device)


class GivenImages(pl.LightningDataModule):
    """Hold the batches of a program as a data set: for training, for validation, for the attack.

    Args:
        train: batches that train and score; () for none.
        validation: batches that choose the best epoch; () for none.
        test: images and labels to attack; None for none.
        num_classes: that labels are below.
        image_size: side of the images, in pixels.
        repeats: how often each training batch is yielded in a row.
    """

    least = 2  # see ``ImageData``; the program's batches are as they are

    def __init__(
        self,
        *,
        train: Batches,
        validation: Batches,
        test: tuple[Tensor, Tensor] | None,
        num_classes: int,
        image_size: int,
        repeats: int = 1,
    ) -> None:
        super().__init__()
        self.train, self.validation, self.test = train, validation, test
        self.num_classes, self.image_size, self.repeats = num_classes, image_size, repeats
        self._device: torch.device | str = "cpu"

    def to(self, device: torch.device | str) -> "GivenImages":
        """Bring batches of the loaders made from now on to ``device``."""
        self._device = device
        return self

    @property
    def sizes(self) -> dict[str, int]:
        """Return whether there are images that validate, and how many are attacked."""
        held = next(iter(self.validation), None) is not None
        return {"val": int(held), "test": 0 if self.test is None else len(self.test[1])}

    @property
    def test_count(self) -> int:
        """Return how many images are attacked."""
        return self.sizes["test"]

    def train_dataloader(self) -> GivenLoader:
        """Return the loader of training batches (x, y)."""
        return self._loader(self.train, repeats=self.repeats)

    def val_dataloader(self) -> GivenLoader:
        """Return the loader of validation batches (x, y)."""
        return self._loader(self.validation)

    def test_dataloader(
        self, indices: Tensor | None = None, batch_size: int | None = None
    ) -> DataLoader[tuple[Tensor, ...]]:
        """Return the loader of batches (x, y, position of each image).

        Args:
            indices: int64 (M,), which images; None for all.
            batch_size: None for one batch of all.
        """
        assert self.test is not None
        x, y = self.test
        chosen = torch.arange(len(y)) if indices is None else indices
        attacked = TensorDataset(x[chosen], y[chosen], chosen)
        return DataLoader(attacked, batch_size=batch_size or len(chosen))

    def _loader(self, batches: Batches, *, repeats: int = 1) -> GivenLoader:
        device, classes = self._device, self.num_classes
        return GivenLoader(batches, classes=classes, device=device, repeats=repeats)
