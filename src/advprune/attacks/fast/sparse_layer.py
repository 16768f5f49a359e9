"""The layers of a chain most of whose weights are zero, as products with sparse matrices.

A row of such a matrix is multiplied with all images at once, so their values lie side by side: a
layer's output is (O, N) in memory, and (N, O) to whoever reads it.
"""

import warnings

import torch
from torch import Tensor

from advprune.attacks.fast.chain import Affine, Dense, Layer, dense_layer, matrix, values

#: How many multiplications of a dense product take as long as one of a sparse product. On a core
#: with AVX-512 the sparse one does 16 to 21 GFLOP/s, convolutions of 24 to 48 filters 60 to 100.
DEARER = 5
#: The largest matrix that is looked at, in entries: it is written out before its zeros are dropped.
ENTRIES = 1 << 24


class Columns:
    """A linear layer, or a convolution written out, of images side by side.

    Args:
        weight: (O, I), of the values of an image, channels last.
        offset: (O,).
        sparse: whether to leave the zeros out.
    """

    def __init__(self, weight: Tensor, offset: Tensor, *, sparse: bool) -> None:
        self.weight, self.back, self.offset = weight, weight.T, offset[:, None]
        if sparse:
            self.weight, self.back = _without_zeros(self.weight), _without_zeros(self.back)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return (self.weight @ values(x).T.contiguous()).add_(self.offset).T

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Multiply back."""
        flat = (self.back @ grad.T.contiguous()).T
        if x.dim() == 2:
            return flat
        return flat.reshape(len(x), *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)


def sparse_layer(block: Affine, weight: Tensor, offset: Tensor, side: torch.Size) -> Layer:
    """Return a layer as ``dense_layer`` does, sparse where that is faster on a processor.

    torch multiplies such matrices by MKL alone: without it every layer is dense.
    """
    if weight.is_cuda or not torch.backends.mkl.is_available():
        return dense_layer(block, weight, offset, side)
    dense = dense_layer(block, weight, offset, side)
    entries, places = offset.numel() * weight.shape[1] * side.numel(), offset[0, 0].numel()
    products = entries if isinstance(dense, Dense) else weight.numel() * places
    sparse = DEARER * int(weight.count_nonzero()) * places < products and entries <= ENTRIES
    if isinstance(dense, Dense):
        return Columns(dense.weight, dense.offset, sparse=sparse)
    if not sparse:
        return dense
    return Columns(matrix(block, weight, side), values(offset).flatten(), sparse=True)


def _without_zeros(weight: Tensor) -> Tensor:
    with warnings.catch_warnings():  # torch calls the layout a beta at its first use
        warnings.filterwarnings("ignore", "Sparse CSR", UserWarning)
        return weight.to_sparse_csr()
