"""Rank the weights of all tensors together: as they are, or each tensor's over their mean."""

import torch
from torch import Tensor

from advprune.masks import Masks, Scores, top_k
from advprune.pruners.layouts.checks import refuse_nan, total_kept


def global_(scores: Scores, ratio: float) -> Masks:
    """Remove the share ``ratio`` of all weights together, but leave each tensor its best one.

    The lowest scores go first.

    The total is exact. Wherever plain global ranking empties no tensor, this equals it.

    Raises:
        UserError: if ``ratio`` is not in [0, 1) or leaves fewer weights than there are tensors.
    """
    total = total_kept(scores, ratio)
    refuse_nan(scores)
    best = {name: int(score.argmax()) for name, score in scores.items()}  # of equals, the first
    others = torch.cat(
        [part for name, score in scores.items() for part in _around(score.detach(), best[name])]
    )
    kept = top_k(others, total - len(scores)).split(
        [score.numel() - 1 for score in scores.values()]
    )
    masks = {}
    for (name, score), part in zip(scores.items(), kept, strict=True):
        at = best[name]
        masks[name] = torch.cat([part[:at], part.new_ones(1), part[at:]]).reshape(score.shape)
    return masks


def normed(scores: Scores, ratio: float) -> Masks:
    """Rank all weights together by score / mean |score| of their tensor.

    Li et al. 2020 ("boosting ticket"), by their code. A tensor that is scaled as a whole keeps its
    share. What an earlier round removed counts in no mean.

    Raises:
        UserError: as ``global_``.
    """
    refuse_nan(scores)
    return global_({name: _over_mean(score.detach()) for name, score in scores.items()}, ratio)


def _over_mean(score: Tensor) -> Tensor:
    alive = score != -torch.inf
    size = torch.where(alive, score, 0).abs().sum(dtype=torch.float64)
    mean = size / alive.sum().clamp_min(1)
    return score / torch.where(mean > 0, mean, 1).to(score.dtype)


def _around(score: Tensor, at: int) -> tuple[Tensor, Tensor]:
    flat = score.reshape(-1)
    return flat[:at], flat[at + 1 :]
