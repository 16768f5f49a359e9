"""HRank (Lin et al. 2020, https://arxiv.org/abs/2002.10179): the mean rank of a filter's maps after the activation.

Ranks are those of numpy's ``matrix_rank`` but all maps of a batch are counted at once. On a CPU, where LAPACK's SVD
takes longest, by Sylvester's law of inertia: the singular values above a threshold t are as many as the positive
eigenvalues of A Aᵀ - t², which a pivoted LDLᵀ shows by its signs. In float64 that decides float32 maps exactly: the
threshold, squared, is four orders above what rounding leaves. A block's score is divided by the larger side of its map.
"""

import torch
from torch import Tensor, nn

from advprune.masks import Scores
from advprune.pruners.criteria.sight import Batches, Sites, of_maps
from advprune.sites import BlockSite

POWER_STEPS = 8  # maps after a ReLU are non-negative, so the largest singular value stands out


def hrank(model: nn.Module, batches: Batches, *, sites: Sites, images: int | None = 500) -> Scores:
    """Score filters or blocks; larger = keep.

    Args:
        sites: all filter sites or all block sites of the model.
        images: how many are looked at; None for all.
    """

    def measure(maps: Tensor) -> Tensor:
        values = ranks(maps)
        return values / max(maps.shape[-2:]) if isinstance(sites[0], BlockSite) else values

    return of_maps(model, batches, sites, images, measure) if sites else {}


def ranks(maps: Tensor) -> Tensor:
    """The numerical rank of each matrix, at numpy's threshold: largest singular value x larger side x float32's eps.

    Args:
        maps: (..., H, W), float32.
    Returns:
        (...), float32 whole numbers.
    """
    if maps.device.type != "cpu":
        return torch.linalg.matrix_rank(maps).to(maps.dtype)
    tall = maps if maps.shape[-2] <= maps.shape[-1] else maps.mT
    wide = tall.reshape(-1, *tall.shape[-2:]).double()
    gram = wide @ wide.mT
    relative = max(maps.shape[-2:]) * torch.finfo(torch.float32).eps
    shift = (_largest(gram) * relative**2).clamp_min(torch.finfo(torch.float64).tiny)
    gram.diagonal(dim1=-2, dim2=-1).sub_(shift[:, None])
    factors, pivots = torch.linalg.ldl_factor(gram)
    positive = (factors.diagonal(dim1=-2, dim2=-1) > 0) & (pivots > 0)
    # a 2x2 pivot, which LAPACK marks by two negative numbers, has one eigenvalue of each sign
    counted = positive.sum(-1) + (pivots < 0).sum(-1) // 2
    return counted.reshape(maps.shape[:-2]).to(maps.dtype)


def _largest(gram: Tensor) -> Tensor:
    """The largest eigenvalue of each positive semi-definite matrix (B, n, n) -> (B,), by the power method."""
    vector = gram.sum(-1, keepdim=True)
    for _ in range(POWER_STEPS):
        vector = gram @ torch.nn.functional.normalize(vector, dim=-2, eps=1e-300)
    return vector.norm(dim=(-2, -1))
