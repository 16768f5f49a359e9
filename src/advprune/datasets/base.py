"""What all data sets share: fixed train, validation and test images, and their loaders."""

from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from advprune.datasets.external_test_set import load_test
from advprune.datasets.extra import load_extra
from advprune.datasets.images import CropFlip, Split, hold_out, subset
from advprune.datasets.loader import EvalLoader, TrainLoader
from advprune.distributed import collectives
from advprune.distributed.sharding import Shard
from advprune.errors import UserError
from advprune.ranges import Count, Held, OpenShare, Seed


@dataclass(kw_only=True, eq=False)
class ImageData(pl.LightningDataModule):
    """A data set; a subclass loads its images in ``load`` and may declare further options.

    The fields are the options that ``conf/dataset`` gives. Images are loaded when they are first
    needed. The validation images are cut from the training set, stratified by class and the same
    for every seed; the test images are never augmented and never trained or chosen on.

    Args:
        name: of the set, for messages.
        num_classes: that the set must have; None takes what it has, and is replaced by it in
            ``setup``. So for ``channels`` and ``image_size``.
        channels: 1 for grey, 3 for colour; see ``num_classes``.
        image_size: height and width in pixels; see ``num_classes``.
        augment: crop and flip of training images; None for neither.
        validation: training images held out: their number (int) or share (float in [0, 1)).
        batch_size: of the set's own images; extra ones come on top.
        train_images: train on so many only, the first of a fixed shuffle; None for all.
        extra: path of an ``.npz`` with further training images, see ``extra.py``; None for none.
        extra_share: share of extra images in a batch, in (0, 1); None for half.
        test: path of other test images, see ``external_test_set.py``; None for the set's own.
        val_images: validate on so many of the held-out images at most; None for all.
        repeats: how often each training batch is yielded in a row.
        seed: of the order and the augmentation; of no split.
    """

    name: str = field()  # needed: else the default would be the None of Lightning's class
    num_classes: int | None = None
    channels: int | None = None
    image_size: int | None = None
    augment: CropFlip | None = None
    validation: Held = 0.1
    batch_size: Count = 128
    train_images: Count | None = None
    extra: str | None = None
    extra_share: OpenShare | None = None
    test: str | None = None
    val_images: Count | None = None
    repeats: Count = 1
    seed: Seed = 0

    least = 2  # images that a last training batch must have to be a batch of its own

    def __post_init__(self) -> None:
        super().__init__()
        if self.extra_share is not None and self.extra is None:
            raise UserError(
                f"dataset.extra_share={self.extra_share:g} is not looked at: there are no extra "
                "images; give dataset.extra, or leave it null"
            )
        self._splits: dict[str, Any] = {}
        self._device: torch.device | str = "cpu"

    def load(self) -> tuple[Any, Any]:
        """Return the images for training and validation, and the test images."""
        raise NotImplementedError

    def describe(self, images: Split) -> dict[str, int]:
        """Return ``num_classes``, ``channels`` and ``image_size`` of these images."""
        _, channels, height, width = images.images.shape
        if height != width:
            raise UserError(
                f"dataset={self.name} has images of {height}x{width} pixels: they must be square"
            )
        return {
            "num_classes": int(images.labels.max()) + 1,
            "channels": channels,
            "image_size": width,
        }

    def setup(self, stage: str | None = None) -> None:
        """Load and split the images, once; further calls do nothing.

        Raises:
            UserError: if files are missing or broken, or don't agree with the options.
        """
        if self._splits:
            return
        pool, test = self.load()
        facts = self.describe(pool)
        self._check_declared(facts)
        kept, held = self._divide(pool.labels, facts["num_classes"])
        if self.test is not None:
            test = load_test(self.test, **facts)
        splits = {"train": pool.take(kept), "val": pool.take(held), "test": test}
        if self.extra is not None:
            splits["extra"] = load_extra(self.extra, **facts)
        self.num_classes, self.channels = facts["num_classes"], facts["channels"]
        self.image_size, self._splits = facts["image_size"], splits

    def _check_declared(self, facts: dict[str, int]) -> None:
        """Check that the images are as the options say."""
        for option, fact in facts.items():
            declared = getattr(self, option)
            if declared is not None and declared != fact:
                raise UserError(
                    f"dataset.{option}={declared} is not what dataset={self.name} has: it must be "
                    f"{fact}"
                )

    def _divide(self, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Return the indices of the images that train and of those that validate."""
        kept, held = hold_out(labels, self.validation)
        if self.train_images is not None:
            kept = kept[subset(len(kept), self.train_images, option="dataset.train_images")]
        if self.val_images is not None and self.val_images < len(held):
            held = held[subset(len(held), self.val_images, option="val_images")]
        if num_classes < 2 or len(kept) < 2:
            what = "one class only" if num_classes < 2 else "one image to train on"
            raise UserError(
                f"dataset={self.name} leaves {what}: a classifier is trained on at least two of "
                "each"
            )
        return kept, held

    def split(self, name: str) -> Any:
        """Return the images of ``train``, ``val``, ``test`` or ``extra``, on the data's device.

        None where there are no extra ones.
        """
        self.setup()
        if name in self._splits:
            self._splits[name] = self._splits[name].to(self._device)
        return self._splits.get(name)

    def to(self, device: torch.device | str) -> "ImageData":
        """Keep images and batches of the loaders made from now on on ``device``."""
        self._device = device
        return self

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of images in each split."""
        self.setup()
        return {name: len(images) for name, images in self._splits.items()}

    @property
    def test_count(self) -> int:
        """Return the number of test images; a set that is published with one is not read for it."""
        return self.sizes["test"]

    @property
    def share(self) -> Shard:
        """Return the part of each batch for this process; all, unless ranks share the work."""
        return Shard(collectives.rank(), collectives.size())

    def checksum(self) -> int:
        """Return a checksum of the images as this process has them.

        Labels and pixels, or file names where the files are too large for memory.
        """
        self.setup()
        return collectives.checksum(
            t for name in sorted(self._splits) for t in self._splits[name].identity()
        )

    def train_dataloader(self) -> Any:
        """Return the loader of training batches: shuffled, augmented (x, y).

        Of several ranks each gets its rows of a batch, and the number of rows of the whole batch.
        """
        return self.make_train_loader(self.split("train"), self.split("extra"))

    def val_dataloader(self) -> Any:
        """Return the loader of the held-out images in order: (x, y), ranks as in training."""
        return self.make_eval_loader(self.split("val"), self.batch_size, None, positions=False)

    def test_dataloader(self, indices: Tensor | None = None, batch_size: int | None = None) -> Any:
        """Return the loader of test images: (x, y, position of each in the test set).

        Of several ranks each gets every so many-th batch.

        Args:
            indices: int64 (M,), which images; None for all. See ``images.subset``.
            batch_size: None for the set's own.
        """
        return self.make_eval_loader(
            self.split("test"), batch_size or self.batch_size, indices, positions=True
        )

    def make_train_loader(self, train: Split, extra: Split | None) -> Any:
        """Return the training loader of these images."""
        options: dict[str, Any] = {
            "batch_size": self.batch_size,
            "seed": self.seed,
            "repeats": self.repeats,
            "share": self.share,
            "least": self.least,
        }
        share = 0.5 if self.extra_share is None else self.extra_share
        return TrainLoader(train, augment=self.augment, extra=extra, extra_share=share, **options)

    def make_eval_loader(
        self, images: Split, batch_size: int, indices: Tensor | None, *, positions: bool
    ) -> Any:
        """Return the validation or test loader of these images."""
        return EvalLoader(
            images, batch_size=batch_size, indices=indices, positions=positions, share=self.share
        )
