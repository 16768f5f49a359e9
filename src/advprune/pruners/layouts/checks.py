"""Check what every layout needs: enough weights that stay, and scores that have a rank."""

import torch

from advprune.errors import UserError
from advprune.masks import Scores, keep_count, named_top_k


def total_kept(scores: Scores, ratio: float) -> int:
    """Return how many weights stay in all when the share ``ratio`` goes and each tensor keeps one.

    Raises:
        UserError: if ``ratio`` is not in [0, 1) or leaves fewer weights than there are tensors.
    """
    total = keep_count(size := sum(score.numel() for score in scores.values()), ratio)
    if total < len(scores):
        raise UserError(
            f"ratio={ratio} keeps {total} of {size} weights, too few for one in each of "
            f"{len(scores)} tensors; lower ratio to at most {1 - len(scores) / size:.6g}"
        )
    return total


def refuse_nan(scores: Scores) -> None:
    """Check that every score has a rank.

    Raises:
        UserError: naming the first tensor with a NaN.
    """
    for name, score in scores.items():
        named_top_k(name, score, 0)


def refuse_negative(scores: Scores, scope: str) -> None:
    """Check that no score is negative but the -inf of what was removed before.

    Raises:
        UserError: naming the tensor; ``scope`` squares its scores.
    """
    for name, score in scores.items():
        if ((score < 0) & (score != -torch.inf)).any():
            raise UserError(
                f"{name}: scope={scope} compares squares, and this pruner's scores can be "
                "negative; give pruner.scope=global or normed, or an absolute pruner.score"
            )
