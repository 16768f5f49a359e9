"""Masks by thresholds, as the code of greedy adversarial pruning makes them: counts follow ties.

https://arxiv.org/abs/2206.07406

Differs from the scopes in that nothing makes the counts exact, and that a global threshold may
empty a tensor.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from advprune.errors import UserError
from advprune.masks import Masks, Scores, check_ratio

Scope = Literal["global", "layer"]


def quantile(scores: Scores, ratio: float, *, scope: str) -> Masks:
    """Remove what is strictly below the ``ratio`` quantile, of all scores or of each tensor's.

    The quantile is numpy's, linear.

    Ties at the threshold stay. Where the threshold is exactly 0, zeros are ranked at random between
    the negative and the positive scores, and the threshold is found anew. Of n distinct scores n -
    ceil((n - 1) * ratio) stay.

    Args:
        scores: larger = keep; to remove the largest, give them negated.
        ratio: share removed, in [0, 1).
        scope: ``global`` or ``layer``.

    Raises:
        UserError: for another scope or a ratio out of range.
    """
    check_ratio(ratio)
    if scope == "layer":
        return {name: _above(score.detach(), ratio) for name, score in scores.items()}
    if scope != "global":
        raise UserError(
            f"scope={scope!r} does not go with select=quantile, which has global and layer"
        )
    sizes = [score.numel() for score in scores.values()]
    kept = _above(
        torch.cat([score.detach().reshape(-1) for score in scores.values()]), ratio
    ).split(sizes)
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, kept, strict=True)}


def bernoulli(scores: Scores, ratio: float) -> Masks:
    """Keep each parameter with the chance 1 - ratio; ``scores`` are uniform in [0, 1).

    The count that stays is so only in expectation.
    """
    check_ratio(ratio)
    return {name: score <= 1 - ratio for name, score in scores.items()}


def _above(scores: Tensor, ratio: float) -> Tensor:
    values = scores.float().cpu()
    threshold = _threshold(values, ratio)
    if threshold == 0:
        between = torch.where(values > 0, values + 1, values)
        values = torch.where(values == 0, 0.5 * torch.rand(values.shape), between)
        threshold = _threshold(values, ratio)
    return (values >= threshold).to(scores.device)


def _threshold(values: Tensor, ratio: float) -> float:
    return float(np.quantile(values.numpy(), ratio))
