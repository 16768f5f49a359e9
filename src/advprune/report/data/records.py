"""Read which images each network has right from its per-image records, and check the counts."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from advprune.report.data.runs import Run

#: Columns that an evaluation is about; the first that is there counts.
OUTCOMES = ("certified_ok", "robust_ok")
#: A share in result.json is a quotient of two whole numbers; a difference of this much is rounding.
ROUNDING = 1e-9
#: Classes whose accuracies are kept one by one.
MOST_CLASSES = 20


@dataclass(frozen=True)
class ImageOutcomes:
    """Which images one run has right.

    Attributes:
        name: the column: ``certified_ok`` or ``robust_ok``.
        right: one bit an image, packed, in the order of the records.
        count: number of images.
        images: digest of the images' positions and labels; equal for the same images.
        by_class: ``class``, how many ``images`` of it, how many right without an attack (``clean``,
            if it was recorded) and how many ``right``, each a list; of many classes the worst.
    """

    name: str
    right: np.ndarray
    count: int
    images: str
    by_class: dict[str, list[int]]


def read_outcomes(run: Run) -> ImageOutcomes:
    """Return the outcomes in a run's ``records.parquet``.

    Raises:
        ValueError: naming the file, if it cannot be read, or if its rows do not agree with
            ``result.json``.
    """
    path = run.evaluated.folder / "records.parquet"
    try:
        with pq.ParquetFile(path) as file:
            present = set(file.schema_arrow.names)
            name = next((name for name in OUTCOMES if name in present), None)
            if name is None:
                raise ValueError(f"it has none of the columns {', '.join(OUTCOMES)}")
            recounted = [column for column in (name, "clean_ok") if column in present]
            table = file.read(columns=["image", "label", *recounted], use_threads=False)
        images, labels = (table.column(i).to_numpy() for i in range(2))
        counted = {column: table.column(column).to_numpy() for column in recounted}
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are of these kinds
        raise ValueError(
            _left_out(run, f"{path} cannot be read ({str(error).splitlines()[0]})")
        ) from None
    for column, flags in counted.items():
        _check_counts(run, path, column, flags)
    right = counted[name]
    digest = hashlib.blake2b(
        images.astype(np.int64).tobytes() + labels.astype(np.int64).tobytes(), digest_size=16
    )
    return ImageOutcomes(
        name,
        np.packbits(right.astype(bool)),
        len(right),
        digest.hexdigest(),
        count_by_class(labels, right, counted.get("clean_ok")),
    )


def count_by_class(
    labels: np.ndarray, right: np.ndarray, clean: np.ndarray | None
) -> dict[str, list[int]]:
    """Count the images of each class, and how many of them are right.

    Args:
        labels: int, (N,), from 0.
        right: bool, (N,).
        clean: bool, (N,): right without an attack; None if that was not recorded.

    Returns:
        As ``ImageOutcomes.by_class``, in the order of the classes. Of more than ``MOST_CLASSES``
        it has those of which the smallest share is right.
    """
    labels = labels.astype(np.int64)
    images, correct = np.bincount(labels), np.bincount(labels, right)
    classes = np.flatnonzero(images)
    if len(classes) > MOST_CLASSES:
        worst = np.argsort(correct[classes] / images[classes], kind="stable")[:MOST_CLASSES]
        classes = np.sort(classes[worst])
    columns = {"class": classes, "images": images[classes], "right": correct[classes]}
    if clean is not None:
        columns["clean"] = np.bincount(labels, clean)[classes]
    return {name: column.astype(int).tolist() for name, column in columns.items()}


def _check_counts(run: Run, path: Path, column: str, flags: np.ndarray) -> None:
    result = run.evaluated.result
    count, share = result["images"], result.get(column.replace("_ok", "_acc"))
    if len(flags) != count or share is None or abs(flags.mean() - share) > ROUNDING:
        reported = f"{count} images and {column} {share if share is None else format(share, '.6f')}"
        counted = f"{len(flags)} images and {column} {flags.mean():.6f}"
        raise ValueError(_left_out(run, f"{path} has {counted}, its result.json {reported}"))


def _left_out(run: Run, what: str) -> str:
    return f"{what}: left out; delete {run.evaluated.folder} and give its command again"


def discordant(a: ImageOutcomes, b: ImageOutcomes) -> tuple[int, int]:
    """Return on how many of the same images only ``a`` is right, and only ``b``."""
    return _ones(a.right & ~b.right), _ones(b.right & ~a.right)


def _ones(bits: np.ndarray) -> int:
    return int(np.bitwise_count(bits).sum())
