"""Projections onto structured weights: whole filters, or whole columns of a layer's matrix.

The matrix of a convolution has a row for each filter and a column for each place of its (C, k, k)
window (Ye et al. 2019, https://arxiv.org/abs/1903.12561). What is kept has the largest L2 norms.
"""

from torch import Tensor

from advprune.masks import keep_count, top_k


def filters(weight: Tensor, ratio: float) -> Tensor:
    """Return a mask that removes the share ``ratio`` of the filters, each of them whole.

    Args:
        weight: (O, ...).
        ratio: in [0, 1); one filter stays at least.
    """
    norms = weight.detach().flatten(1).norm(dim=1)
    kept = top_k(norms, keep_count(len(norms), ratio))
    return kept.view(-1, *[1] * (weight.dim() - 1)).expand_as(weight).clone()


def columns(weight: Tensor, ratio: float) -> Tensor:
    """Return a mask that removes the share ``ratio`` of the columns, in all filters alike.

    Args:
        weight: (O, ...).
        ratio: in [0, 1); one column stays at least.
    """
    norms = weight.detach().flatten(1).norm(dim=0)
    kept = top_k(norms, keep_count(len(norms), ratio))
    return kept.view(1, *weight.shape[1:]).expand_as(weight).clone()
