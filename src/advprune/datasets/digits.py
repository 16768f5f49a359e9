"""Digits: 1,797 real 8x8 scans in scikit-learn, no download (Alpaydin and Kaynak 1998).

https://archive.ics.uci.edu/dataset/80. The 16 grey levels are spread over uint8. There is no
official split: 359 images (20 %), stratified by class, are the test set; 144 of the other 1,438
validate by default and 1,294 train.
"""

import numpy as np
import torch

from advprune.datasets.base import ImageData
from advprune.datasets.images import Split, hold_out

TEST_SHARE = 0.2


class Digits(ImageData):
    """Scans of one channel."""

    def load(self) -> tuple[Split, Split]:
        """Return the 1,438 images for training and validation, and the 359 test images."""
        from sklearn.datasets import load_digits  # seconds to import, and only this set needs it

        bunch = load_digits()
        images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
        whole = Split(
            torch.from_numpy(images).unsqueeze(1), torch.from_numpy(bunch.target.astype(np.int64))
        )
        rest, test = hold_out(whole.labels, TEST_SHARE)
        return whole.take(rest), whole.take(test)
