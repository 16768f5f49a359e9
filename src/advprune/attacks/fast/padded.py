"""The copy that searches on a GPU: batches of few sizes."""

import torch
from torch import Tensor

from advprune.attacks.fast.searcher import Searcher

#: Rows up to which their number is a power of two, from the fewest there are;
#: larger batches have a multiple of the former.
MANY, FEWEST = 64, 8


class PaddedSearcher(Searcher):
    """A copy on a GPU, which sees batches of few sizes, whatever their number of images.

    cuDNN plans each convolution anew for each new size, and a search has nearly as many sizes as
    images, as one after the other falls.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K), float32, of pixels (N, C, H, W) in [0, 1]."""
        rows = padded_rows(len(x))
        behind = x.new_zeros(rows - len(x), *x.shape[1:])
        return super().forward(torch.cat([x, behind]))[: len(x)]


def padded_rows(images: int) -> int:
    """Return how many rows a batch of so many images, at least 1, has on a GPU."""
    if images > MANY:
        return -(-images // MANY) * MANY
    return max(FEWEST, 1 << (images - 1).bit_length())
