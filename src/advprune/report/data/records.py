"""The records of evaluations as bits: which images each network has right, counted again, and of which images."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from advprune.report.data.runs import Run

#: What an evaluation is about, first the one that counts: a certifier proves, an attack is
#: withstood.
VERDICTS = ("certified_ok", "robust_ok")
#: A share in result.json is a quotient of two whole numbers; this much of it is rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Verdicts:
    """Of one run: ``right`` is a bit an image, packed, in the order of the records; ``images`` tells which they are."""

    name: str
    right: np.ndarray
    count: int
    images: str


def read(run: Run) -> Verdicts:
    """The columns that count of one ``records.parquet``.

    Raises:
        ValueError: naming the file, if it cannot be read, or if its rows do not say what
            ``result.json`` says.
    """
    path = run.evaluated.folder / "records.parquet"
    try:
        with pq.ParquetFile(path) as file:
            present = set(file.schema_arrow.names)
            name = next((name for name in VERDICTS if name in present), None)
            if name is None:
                raise ValueError(f"it has none of the columns {', '.join(VERDICTS)}")
            recounted = [column for column in (name, "clean_ok") if column in present]
            table = file.read(columns=["image", "label", *recounted], use_threads=False)
        images, labels = (table.column(i).to_numpy() for i in range(2))
        counted = {column: table.column(column).to_numpy() for column in recounted}
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are of these kinds
        raise ValueError(
            _left_out(run, f"{path} cannot be read ({str(error).splitlines()[0]})")
        ) from None
    for column, flags in counted.items():
        count, share = (
            run.evaluated.result["images"],
            run.evaluated.result.get(column.replace("_ok", "_acc")),
        )
        if len(flags) != count or share is None or abs(flags.mean() - share) > ROUNDING:
            said = f"{count} images and {column} {share if share is None else format(share, '.6f')}"
            counts = f"{len(flags)} images and {column} {flags.mean():.6f}"
            raise ValueError(_left_out(run, f"{path} has {counts}, its result.json {said}"))
    right = counted[name]
    digest = hashlib.blake2b(
        images.astype(np.int64).tobytes() + labels.astype(np.int64).tobytes(), digest_size=16
    )
    return Verdicts(name, np.packbits(right.astype(bool)), len(right), digest.hexdigest())


def _left_out(run: Run, what: str) -> str:
    return f"{what}: left out; delete {run.evaluated.folder} and give its command again"


def discordant(a: Verdicts, b: Verdicts) -> tuple[int, int]:
    """On how many of the same images only ``a`` is right, and only ``b``."""
    return _ones(a.right & ~b.right), _ones(b.right & ~a.right)


def _ones(bits: np.ndarray) -> int:
    return int(np.bitwise_count(bits).sum())
