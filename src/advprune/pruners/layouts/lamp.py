"""Rank the weights of all tensors together by what the rest of their tensor weighs (LAMP)."""

import numpy as np
import torch
from torch import Tensor

from advprune.errors import UserError
from advprune.masks import Masks, Scores, kth_largest
from advprune.pruners.layouts.counts import largest, refuse_nan, total_kept


def lamp(scores: Scores, ratio: float) -> Masks:
    """Rank all weights together by s² / (the sum of s² over their tensor's scores not below s).

    Lee et al. 2021, https://arxiv.org/abs/2010.07611, of |w| there and of any score here. The
    largest score of each tensor counts 1, so that no tensor is emptied; the total is exact. What an
    earlier round removed counts in no sum.

    Raises:
        UserError: if ``ratio`` is not in [0, 1) or leaves fewer weights than there are tensors, or
            if a score is negative: squares would reverse its rank.
    """
    total = total_kept(scores, ratio)
    refuse_nan(scores)
    _refuse_negative(scores)
    return largest(scores, _counts([s.detach().reshape(-1) for s in scores.values()], total))


def _refuse_negative(scores: Scores) -> None:
    for name, score in scores.items():
        if ((score < 0) & (score != -torch.inf)).any():  # -inf: removed before
            raise UserError(
                f"{name}: scope=lamp compares squares, and this pruner's scores can be negative; "
                "give pruner.scope=global or normed, or an absolute pruner.score"
            )


def _counts(tensors: list[Tensor], total: int) -> list[int]:
    """Return how many of each tensor are among the ``total`` largest of all.

    Only so many of a tensor's scores are sorted as are needed: a guess, doubled for every tensor
    whose last sorted score would stay.
    """
    looked = [min(len(tensor), 4 * total // len(tensors) + 1) for tensor in tensors]
    best = [lamp_scores(tensor, k) for tensor, k in zip(tensors, looked, strict=True)]
    while True:
        threshold = _kth_largest(torch.cat(best), total)
        short = [
            i
            for i, values in enumerate(best)
            if looked[i] < len(tensors[i]) and values[-1] >= threshold
        ]
        if not short:
            break
        for i in short:
            looked[i] = min(2 * looked[i], len(tensors[i]))
            best[i] = lamp_scores(tensors[i], looked[i])
    return _dealt(best, threshold, total)


def _kth_largest(values: Tensor, k: int) -> float:
    return float(kth_largest(values, k)) if len(values) >= k else -torch.inf


def _dealt(best: list[Tensor], threshold: float, total: int) -> list[int]:
    """Count what lies above the threshold, and on it as far as the total allows, in order."""
    counts = [int((values > threshold).sum()) for values in best]
    for i, values in enumerate(best):
        counts[i] += min(int((values == threshold).sum()), total - sum(counts))
    return counts


def lamp_scores(flat: Tensor, k: int) -> Tensor:
    """Return the LAMP scores of the ``k`` largest scores of a tensor, falling, in float64.

    Args:
        flat: scores (N,), not negative; -inf, for what is removed already, gives -1.
        k: 1 <= k <= N.
    """
    values = _sorted_largest(flat, k).double()
    squares = values.clamp_min(0) ** 2
    scores = squares / squares.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
    scores[0] = 1.0  # also of a tensor of zeros
    return torch.where(values < 0, -1.0, scores)


def _sorted_largest(flat: Tensor, k: int) -> Tensor:
    if flat.device.type != "cpu":
        return torch.topk(flat, k).values
    chosen = flat[flat >= kth_largest(flat, k)]
    return torch.from_numpy(np.sort(chosen.float().numpy())[::-1][:k].copy())
