"""MixTrain (Wang et al. 2018, https://arxiv.org/abs/1811.02625), as HYDRA has it: worst cases of a few images a step.

Differs from HYDRA's code (https://arxiv.org/abs/2002.10509) in its bounds, which are cut to [0, 1]
and not to the least and largest pixel of the images at hand, and so hold.
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
    """CE(f(x), y), and with a probability plus a weight times CE(worst-case logits, y) of a few of the images.

    eps grows linearly over the first ``ramp`` epochs; the weight is multiplied by 2.5 every five
    epochs after them, up to 50. Epochs are those of ``clock``, which the whole of training is: a
    shorter training runs through all of them.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), of operations that bounds know.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        progress: share of training that is done, in [0, 1).
        bound: (model, x, y, scale=share of eps) -> lower bounds of the margins (n, K), such as
            ``linear.crown``.
        images: how many, drawn with replacement, are bounded in a step.
        probability: of a step with bounds.
        clock: epochs that the schedules count in one training.
        ramp: epochs in which eps grows; 0: all of it at once.
        weight: of the worst case at first.
        normalised: divide the loss by 1 + the present weight, in every step: the same proportions,
            and steps that SGD can take; with Adam it changes little. False: as the authors.

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
    whole = 1 + present if normalised else 1.0
    natural = F.cross_entropy(model(x), y)
    if torch.rand(()).item() >= probability:
        return natural / whole
    here, share = sample_rows(len(x), images, x.device)
    if not share:  # all of them are on other ranks
        return natural / whole
    margins = bound(model, x[here], y[here], scale=eps_ramp(epoch, ramp))
    return (natural + present * share * F.cross_entropy(-margins, y[here])) / whole
