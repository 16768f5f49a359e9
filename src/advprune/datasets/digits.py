"""Digits: 1,797 real 8x8 scans in scikit-learn, no download (Alpaydin and Kaynak 1998).

https://archive.ics.uci.edu/dataset/80. The 16 grey levels are spread over uint8. There is no
official split: 359 images (20 %), stratified by class, are the test set; 144 of the other 1,438
validate by default and 1,294 train.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from advprune.datasets.base import ImageData
from advprune.datasets.images import Split, hold_out

TEST_SHARE = 0.2


class Digits(ImageData):
    """Scans of one channel."""

    def load(self) -> tuple[Split, Split]:
        """Return the 1,438 images for training and validation, and the 359 test images."""
        whole = _scans()
        rest, test = hold_out(whole.labels, TEST_SHARE)
        return whole.take(rest), whole.take(test)


@cache
def _scans() -> Split:
    """Read all scans, once in a process: every stage asks, and parsing the text takes a while."""
    rows = np.loadtxt(_file(), delimiter=",", dtype=np.int64)
    grey = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8)
    return Split(torch.from_numpy(grey.reshape(-1, 1, 8, 8)), torch.from_numpy(rows[:, -1].copy()))


def _file() -> Path:
    """Return the file of scikit-learn's ``load_digits``, which takes two seconds to import."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("dataset=digits needs scikit-learn, which is not installed")
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
