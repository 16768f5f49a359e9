"""Keep whole columns of each layer: one place of its window, in all of its filters alike.

The matrix of a convolution has a row for each filter and a column for each place of its (C, k, k)
window, which is an input channel at an offset of the kernel (Ye et al. 2019,
https://arxiv.org/abs/1903.12561). A linear layer has a column for each input.
"""

import math

import torch
from torch import Tensor

from advprune.errors import UserError
from advprune.masks import Masks, Scores, check_ratio, keep_count, named_top_k
from advprune.pruners.layouts.checks import refuse_nan, refuse_negative


def columns(scores: Scores, ratio: float) -> Masks:
    """Remove the share ``ratio`` of each layer's columns, those of the smallest L2 norm first.

    Args:
        scores: importance per weight, (out, in, height, width) or (out, in); none is negative. A
            bias is one column, which stays.
        ratio: share of the columns removed, in [0, 1); one column of each layer stays.

    Raises:
        UserError: if ``ratio`` is out of range or more than one column a layer leaves to remove, or
            a score is negative: norms would reverse it.
    """
    check_ratio(ratio)
    _refuse_too_much(scores, ratio)
    refuse_nan(scores)
    refuse_negative(scores, "columns")
    return {name: _largest(name, score.detach(), ratio) for name, score in scores.items()}


def audit(masks: Masks) -> dict[str, dict[str, list[int]]]:
    """Count the columns that are kept, and of how many, of each layer.

    Raises:
        UserError: naming the tensor, if some filters keep a column that others lack.
    """
    counts = {}
    for name, mask in masks.items():
        rows = mask.flatten(1)
        parts = int((rows != rows[:1]).any(0).sum())
        if parts:
            raise UserError(
                f"{parts} of the {rows.shape[1]} columns of {name} are kept in part: a defect, or "
                "masks of another pruner"
            )
        counts[name] = [int(rows[0].sum()), rows.shape[1]]
    return {"columns": counts}


def _refuse_too_much(scores: Scores, ratio: float) -> None:
    """Check that one column a layer is no more than the ratio leaves."""
    matrices = [score for score in scores.values() if score.dim() > 1]
    total = sum(score.numel() for score in matrices)
    largest = 1 - sum(map(len, matrices)) / max(total, 1)
    if matrices and ratio > largest + 1e-12:
        raise UserError(
            f"ratio={ratio:g} is not possible: with one column left in each of {len(matrices)} "
            f"layers, the largest is {math.floor(largest * 1e4) / 1e4:g}"
        )


def _largest(name: str, score: Tensor, ratio: float) -> Tensor:
    rows = score.reshape(len(score), -1)
    gone = (rows == -torch.inf).all(0)  # in an earlier round, or the parent
    norms = rows.clamp_min(0).norm(dim=0).masked_fill(gone, -torch.inf)
    kept = named_top_k(name, norms, keep_count(len(norms), ratio))
    return kept.expand_as(rows).reshape(score.shape).clone()
