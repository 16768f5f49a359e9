"""Rank the weights of all tensors together by what the rest of their tensor weighs (LAMP)."""

import numpy as np
import torch
from torch import Tensor

from advprune.errors import UserError
from advprune.masks import Masks, Scores, kth_largest, largest
from advprune.pruners.layouts.checks import refuse_nan, refuse_negative, total_kept
from advprune.pruners.layouts.lamp_bounds import Undecided, undecided


def lamp(scores: Scores, ratio: float) -> Masks:
    """Rank all weights together by s² / (the sum of s² over their tensor's scores not below s).

    Lee et al. 2021, https://arxiv.org/abs/2010.07611, of |w| there and of any score here. The
    largest score of each tensor counts 1, so that no tensor is emptied; the total is exact. What an
    earlier round removed counts in no sum.

    Raises:
        UserError: if ``ratio`` is not in [0, 1) or leaves fewer weights than there are tensors, or
            if a score is negative or infinite: squares would not keep its rank.
    """
    total = total_kept(scores, ratio)
    refuse_nan(scores)
    refuse_negative(scores, "lamp")
    _refuse_unsquarable(scores)
    return largest(scores, _counts([s.detach().reshape(-1) for s in scores.values()], total))


def _refuse_unsquarable(scores: Scores) -> None:
    for name, score in scores.items():
        if score.max() > torch.finfo(torch.float32).max:
            raise UserError(
                f"{name}: scope=lamp sums squares, and a score of it is {float(score.max()):g}; "
                "give pruner.scope=global, which only compares"
            )


def _counts(tensors: list[Tensor], total: int) -> list[int]:
    """Return how many of each tensor are among the ``total`` largest of all.

    On a processor sorting all of them would take seconds, so only those are ranked that bounds
    leave undecided, a few in a hundred.
    """
    on_processor = all(tensor.device.type == "cpu" for tensor in tensors)
    ranges = undecided(tensors, total) if on_processor else [Undecided()] * len(tensors)
    ranked = [
        lamp_scores(_falling(flat, part), part.squares_above)
        for flat, part in zip(tensors, ranges, strict=True)
    ]
    surely = [part.kept_above for part in ranges]
    more = _dealt(ranked, total - sum(surely))
    return [count + sure for count, sure in zip(more, surely, strict=True)]


def _falling(flat: Tensor, part: Undecided) -> Tensor:
    """Return the undecided scores of a tensor, the largest first."""
    if flat.device.type != "cpu":
        return flat.sort(descending=True).values
    values = flat.float()
    values = values[(values >= part.low) & (values < part.high)]
    return torch.from_numpy(np.sort(values.numpy())[::-1].copy())  # faster than torch sorts


def lamp_scores(falling: Tensor, squares_above: float = 0.0) -> Tensor:
    """Return LAMP scores in float64.

    Args:
        falling: scores (N,) of a tensor in falling order, not negative; -inf, for what is removed
            already, gives -1.
        squares_above: sum of squares of its scores that are larger than these; 0 if there are none.
    """
    values = falling.double()
    squares = values.clamp_min(0) ** 2
    squares_down_to = torch.cat([squares.new_tensor([squares_above]), squares]).cumsum(0)[1:]
    scores = squares / squares_down_to.clamp_min(torch.finfo(torch.float64).tiny)
    if not squares_above:
        scores[:1] = 1.0  # also of a tensor of zeros
    return torch.where(values < 0, -1.0, scores)


def _dealt(ranked: list[Tensor], total: int) -> list[int]:
    """Count what is among the ``total`` largest; of equal ones the first tensor's are."""
    threshold = kth_largest(torch.cat(ranked), total)
    counts = [int((values > threshold).sum()) for values in ranked]
    for i, values in enumerate(ranked):
        counts[i] += min(int((values == threshold).sum()), total - sum(counts))
    return counts
