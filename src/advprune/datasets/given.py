"""Serve batches that a program gives: any iterable of (images, labels)."""

from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from advprune.datasets.batch_checks import Batches, images_and_labels
from advprune.datasets.loader import Resumable


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
