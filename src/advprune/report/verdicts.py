"""The records of evaluations as bits: which images each network has right, counted again, and of which images."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from advprune.report.found import Run

#: What an evaluation is about, first the one that counts: a certifier proves, an attack is withstood.
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
        ValueError: naming the file, if it cannot be read, or if its rows do not say what ``result.json`` says.
    """
    path = run.evaluated.folder / "records.parquet"
    try:
        with pq.ParquetFile(path) as file:
            present = set(file.schema_arrow.names)
            name = next((name for name in VERDICTS if name in present), None)
            if name is None:
                raise ValueError(f"it has none of the columns {', '.join(VERDICTS)}")
            table = file.read(columns=["image", "label", name], use_threads=False)
        images, labels, right = (table.column(i).to_numpy() for i in range(3))
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are of these kinds
        raise ValueError(_left_out(run, f"{path} cannot be read ({str(error).splitlines()[0]})")) from None
    share = run.evaluated.result[name.replace("_ok", "_acc")]
    if len(right) != run.evaluated.result["images"] or abs(right.mean() - share) > ROUNDING:
        said = f"{run.evaluated.result['images']} images and {name} {share:.6f}"
        raise ValueError(
            _left_out(run, f"{path} has {len(right)} images and {name} {right.mean():.6f}, its result.json {said}")
        )
    digest = hashlib.blake2b(images.astype(np.int64).tobytes() + labels.astype(np.int64).tobytes(), digest_size=16)
    return Verdicts(name, np.packbits(right.astype(bool)), len(right), digest.hexdigest())


def _left_out(run: Run, what: str) -> str:
    return f"{what}: left out; delete {run.evaluated.folder} and give its command again"


def discordant(a: Verdicts, b: Verdicts) -> tuple[int, int]:
    """On how many of the same images only ``a`` is right, and only ``b``."""
    return _ones(a.right & ~b.right), _ones(b.right & ~a.right)


def _ones(bits: np.ndarray) -> int:
    return int(np.bitwise_count(bits).sum())
