"""Any class-per-folder tree of images, small or large: ImageNet, Tiny-ImageNet, your own.

Up to 64 pixels, images are decoded once and live on the device as uint8; above, they are decoded
and cropped each time.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from advprune.datasets.base import ImageData
from advprune.datasets.decode import count_frames, open_image
from advprune.datasets.decode_cache import decode_cached
from advprune.datasets.file_loaders import FileEvalLoader, FileTrainLoader
from advprune.datasets.files import Files
from advprune.datasets.folders import SUFFIXES
from advprune.datasets.images import Split
from advprune.datasets.listing import list_split, test_folder
from advprune.distributed import collectives
from advprune.errors import UserError
from advprune.ranges import Side, refuse_outside
from advprune.runtime.provenance import usable_processors

#: Largest image size that is kept in memory.
SMALL = 64
#: How many of the files that may hold several pictures are asked whether they do.
LOOKED_INTO = 100
SEVERAL = (".gif", ".tif", ".tiff", ".webp")  # formats that may hold several pictures

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class ImageFolder(ImageData):
    """Images in ``root/train/<class>/`` and ``root/test/<class>/``, or ``val`` without ``test``.

    A folder ``val`` beside ``test`` is not used: validation images are cut from ``train``, as in
    every set. The options are ``ImageData``'s and these; of ``augment``, large images use ``flip``
    only.

    Args:
        root: folder of the tree.
        image_size: up to 64, what all images have; above, what they are cropped to.
        channels: 3 for colour, 1 for grey.
        cache: folder that decoded small images are kept in; None for no cache.
        workers: threads or processes that decode; None for one a processor, 16 at most.

    Raises:
        UserError: if an option is out of range, or ``extra`` is set for large images.
    """

    root: str
    image_size: Side = 224
    channels: Literal[1, 3] = 3
    cache: str | None = None
    workers: Annotated[int, Ge(0), Le(1024)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_outside(
            ImageFolder,
            channels=self.channels,
            image_size=self.image_size,
            workers=self.workers,
        )
        if self.extra is not None and self.image_size > SMALL:
            raise UserError(
                f"dataset.extra is for images up to {SMALL} pixels: drop it, or give "
                f"dataset.image_size={SMALL}"
            )
        self.folder = Path(self.root).expanduser()
        self._workers = min(usable_processors(), 16) if self.workers is None else self.workers
        self.workers = self._workers

    def load(self) -> tuple[Any, Any]:
        """Return the images of ``train`` and of ``test`` (or ``val``).

        Raises:
            UserError: if the tree has no classes, an empty one or unequal ones, or an image cannot
                be used.
        """
        pool = self._list("train")
        test = self._list(test_folder(self.folder))
        if self.image_size > SMALL:
            first = open_image(pool.paths[0], self.channels)
            if max(first.size) <= SMALL:
                raise UserError(
                    f"dataset.image_size={self.image_size} is far above what {pool.paths[0]} has, "
                    f"{first.width}x{first.height}: give dataset.image_size={max(first.size)}"
                )
            return pool, test
        images = decode_cached(
            [*pool.paths, *test.paths],
            cache=self.cache,
            channels=self.channels,
            image_size=self.image_size,
            workers=max(self._workers, 1),
        )
        count = len(pool)
        whole = torch.from_numpy(images)
        return Split(whole[:count], pool.labels), Split(whole[count:], test.labels)

    def _list(self, split: str) -> Files:
        listing = list_split(self.folder, split)
        folder = os.path.abspath(self.folder / split)  # noqa: PTH100  strings are joined: there may be a million
        paths = [f"{folder}/{path}" for path in listing.paths]
        if collectives.is_rank_zero():
            _tell_left_out(folder, listing.left_out)
            _tell_frames(paths)
        return Files(paths, torch.tensor(listing.labels), self.channels, self.image_size)

    def describe(self, images: Split | Files) -> dict[str, int]:
        """Return the number of class folders, and ``channels`` and ``image_size`` as asked for."""
        if isinstance(images, Split):
            return super().describe(images)
        return {
            "num_classes": int(images.labels.max()) + 1,
            "channels": images.channels,
            "image_size": images.size,
        }

    def make_train_loader(self, train: Split | Files, extra: Split | None) -> Any:
        """Return the training loader of these images."""
        if isinstance(train, Split):
            return super().make_train_loader(train, extra)
        flip = self.augment is not None and self.augment.flip
        options: dict[str, Any] = {
            "batch_size": self.batch_size,
            "seed": self.seed,
            "repeats": self.repeats,
            "share": self.share,
            "least": self.least,
        }
        return FileTrainLoader(train, flip=flip, workers=self._workers, **options)

    def make_eval_loader(
        self, images: Split | Files, batch_size: int, indices: Tensor | None, *, positions: bool
    ) -> Any:
        """Return the validation or test loader of these images."""
        if isinstance(images, Split):
            return super().make_eval_loader(images, batch_size, indices, positions=positions)
        options: dict[str, Any] = {
            "batch_size": batch_size,
            "workers": self._workers,
            "share": self.share,
        }
        return FileEvalLoader(images, indices=indices, positions=positions, **options)


def _tell_left_out(folder: str, names: list[str]) -> None:
    """Log which files of a split are not used."""
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        files = "1 file is" if len(names) == 1 else f"{len(names)} files are"
        log.warning(
            "%s: %s left out (%s%s), for only images in class folders are used, named %s",
            folder,
            files,
            ", ".join(sorted(names)[:5]),
            more,
            ", ".join(SUFFIXES),
        )


def _tell_frames(paths: list[str]) -> None:
    """Log if files hold more than the one picture that is used; of many, the first are checked."""
    asked = [path for path in paths if path.lower().endswith(SEVERAL)][:LOOKED_INTO]
    several = [path for path in asked if count_frames(path) > 1]
    if several:
        log.warning(
            "%s holds several pictures, as %d of %d such files do: the first of each is used",
            several[0],
            len(several),
            len(asked),
        )
