"""Ranks of many small matrices: numpy's ``matrix_rank`` without a singular value decomposition.

By Sylvester's law of inertia the singular values of A above t are as many as the positive
eigenvalues of A Aᵀ - t², and a pivoted LDLᵀ shows their signs. It is asked at twice an upper bound
of numpy's threshold and, where rows and columns of zeros leave room for more, at half a lower
bound. Both in float64, where t² is far above rounding. Only where the two answers differ, that is
where a singular value lies so near the threshold that rounding in float32 decides, numpy itself is
asked. So every rank is numpy's, on any device.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

CHUNK = 2**20  # bytes of float64 at once: what a core's own cache holds
#: Singular values in float32 are off by a few eps of the largest; numpy allows ``max(H, W)`` eps.
MARGIN = 2.0
TINY = torch.finfo(torch.float64).tiny


def ranks(maps: Tensor) -> Tensor:
    """Return each matrix's rank at numpy's threshold.

    The threshold is the largest singular value x the larger side x float32's eps.

    Args:
        maps: (..., H, W), float32, no value negative.

    Returns:
        (...), float32 whole numbers on the device of ``maps``; NaN for a matrix that is not finite.
    """
    short_first = maps if maps.shape[-2] <= maps.shape[-1] else maps.mT
    flat = short_first.reshape(-1, *short_first.shape[-2:]).cpu()
    chunks = flat.split(max(CHUNK // (8 * flat.shape[1] ** 2), 1))
    return torch.cat(_each(chunks)).reshape(maps.shape[:-2]).to(maps)


def _each(chunks: tuple[Tensor, ...]) -> list[Tensor]:
    """Return each chunk's ranks, a thread a chunk.

    In matrices this small LAPACK's own threads have nothing to share.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(chunks) == 1:
        return [_counted(chunk) for chunk in chunks]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(_counted, chunks))
    finally:
        torch.set_num_threads(threads)  # what threads that torch starts later begin with


def _counted(maps: Tensor) -> Tensor:
    """Return the ranks (B,) of matrices (B, H, W), H <= W."""
    wide = maps.double()
    gram = wide @ wide.mT
    squares, size = gram.diagonal(dim1=-2, dim2=-1), gram.flatten(1).norm(dim=1)
    relative = (MARGIN * maps.shape[-1] * torch.finfo(torch.float32).eps) ** 2
    least = _above(
        gram, relative * size
    )  # the largest eigenvalue is at most the root of the sum of their squares
    most = torch.minimum((squares > 0).sum(-1), (maps.amax(-2) > 0).sum(-1))
    open_ = (least < most).nonzero()[:, 0]
    # and at least the sum of their squares over their sum
    most[open_] = _above(
        gram[open_], relative / MARGIN**4 * size[open_].square() / squares[open_].sum(-1)
    )
    for index in (least < most).nonzero()[:, 0].tolist():
        least[index] = int(np.linalg.matrix_rank(maps[index].numpy()))
    return torch.where(size.isfinite(), least.double(), torch.nan)


def _above(gram: Tensor, level: Tensor) -> Tensor:
    """Count each symmetric matrix's (B, n, n) eigenvalues above its level (B,): (B,)."""
    shifted = gram.clone()
    shifted.diagonal(dim1=-2, dim2=-1).sub_(level.clamp_min(TINY)[:, None])
    factors, pivots, _ = torch.linalg.ldl_factor_ex(shifted)
    positive = (factors.diagonal(dim1=-2, dim2=-1) > 0) & (pivots > 0)
    # a 2x2 pivot, which LAPACK marks by two negative numbers, has one eigenvalue of each sign
    return positive.sum(-1) + (pivots < 0).sum(-1) // 2
