"""MixTrain (Wang et al. 2018, https://arxiv.org/abs/1811.02625), as HYDRA uses it.

Training on the worst case of a few images per step. Differs from HYDRA's code
(https://arxiv.org/abs/2002.10509) in its bounds, which are cut to [0, 1] and not to the least and
largest pixel of the images at hand, and so hold.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.distributed.sharding import sample_rows
from advprune.errors import UserError
from advprune.ranges import Count, Natural, Share, Weight, refuse_outside
from advprune.schedules import eps_ramp, iw


def mixtrain(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    progress: float,
    bound: Callable[..., Tensor],
    images: Count = 5,
    probability: Share = 0.8,
    clock: Count = 60,
    ramp: Natural = 15,
    weight: Weight = 0.1,
    normalised: bool = False,
) -> Tensor:
    """Compute CE(f(x), y) plus, in some steps, a weight times CE(worst-case logits, y).

    The worst case is that of a few of the images. eps grows linearly over the first ``ramp``
    epochs; the weight is multiplied by 2.5 every five epochs after them, up to 50. Epochs here are
    shares of training, 1 / ``clock`` each: a shorter training runs through all of them.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), of operations that
            ``bounds.graph`` knows.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        progress: share of training that is done, in [0, 1).
        bound: (model, x, y, scale=share of eps) -> lower bounds of the margins (n, K), such as
            ``linear.crown``.
        images: number of images, drawn with replacement, that are bounded in a step.
        probability: probability that a step computes bounds, in [0, 1].
        clock: number of epochs that the schedules count in the whole training.
        ramp: epochs in which eps grows, at most ``clock``; 0 for the final eps at once.
        weight: weight of the worst case at first, >= 0.
        normalised: divide the loss by 1 + the present weight in every step: the same proportions,
            and steps that SGD can take; with Adam it changes little. False as in the authors' code.

    Returns:
        A scalar.

    Raises:
        UserError: if an option is out of range.
    """
    refuse_outside(
        mixtrain, images=images, probability=probability, clock=clock, ramp=ramp, weight=weight
    )
    if ramp > clock:
        raise UserError(
            f"mixtrain: ramp={ramp} is not possible: it must be at most clock, which is {clock}"
        )
    epoch = math.floor(progress * clock)
    present = iw(epoch, ramp, start=weight)
    divisor = 1 + present if normalised else 1.0
    natural = F.cross_entropy(model(x), y)
    if torch.rand(()).item() >= probability:
        return natural / divisor
    here, share = sample_rows(len(x), images, x.device)
    if not share:  # all of the sampled images are on other ranks
        return natural / divisor
    margins = bound(model, x[here], y[here], scale=eps_ramp(epoch, ramp))
    return (natural + present * share * F.cross_entropy(-margins, y[here])) / divisor
