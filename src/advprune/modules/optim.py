"""Make a recipe's optimizer and the learning rate of each step.

The rate's shapes are pure functions of how far training is, and return a factor of the peak:
``progress`` is the share of training that is done, in [0, 1); ``epoch`` counts from 0.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from advprune.modules.recipe import Optimizer, Recipe, Schedule


def optimizer(
    recipe: Recipe,
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    *,
    fused: bool | None = None,
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer; Adam's decay is coupled (L2), as in the papers.

    Args:
        recipe: names it, with its rate, decay and momentum.
        parameters: that it updates, or groups of them with rates and decays of their own.
        fused: one kernel for all parameters instead of several for each; differs in rounding. None:
            torch's choice.
    """
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer is Optimizer.adam:
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=fused)
    nesterov = bool(recipe.nesterov)
    return torch.optim.SGD(
        parameters,
        lr=rate,
        weight_decay=decay,
        momentum=recipe.momentum,
        nesterov=nesterov,
        fused=fused,
    )


def cosine(progress: float) -> float:
    """Follow half a cosine from 1 down to 0.

    From Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983.
    """
    return 0.5 * (1 + math.cos(math.pi * progress))


def cosine_authors(epoch: int, epochs: int) -> float:
    """Follow the cosine of HYDRA's code, one epoch late: 1 at epoch 1 and never 0.

    The code belongs to Sehwag et al. 2020, https://arxiv.org/abs/2002.10509.
    """
    return 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))


def step(progress: float, milestones: Sequence[float] = (0.75, 0.9)) -> float:
    """Return 1, and a tenth of what it was from each milestone on, a share of training."""
    return float(10.0 ** -sum(progress >= milestone for milestone in milestones))


def step_half(progress: float) -> float:
    """Return 1, then 0.1 from half of training on, then 0.01 from three quarters on.

    This is how https://arxiv.org/abs/2206.07406 trains.
    """
    return step(progress, (0.5, 0.75))


def one_cycle(progress: float, *, rise: float = 0.4) -> float:
    """Rise linearly from 0 to 1 over the first ``rise`` of training, then fall linearly to 0.

    The triangle of Smith 2018, https://arxiv.org/abs/1803.09820, that fast adversarial training
    uses.

    Args:
        progress: share of training that is done, in [0, 1).
        rise: share of training in which the factor rises, in (0, 1).
    """
    return progress / rise if progress < rise else (1 - progress) / (1 - rise)


#: Schedules that depend on nothing but the progress.
SHAPES: dict[Schedule, Callable[[float], float]] = {
    Schedule.cosine: cosine,
    Schedule.step: step,
    Schedule.step_half: step_half,
    Schedule.one_cycle: one_cycle,
}


def factor(recipe: Recipe, *, steps_per_epoch: int, epochs: int) -> Callable[[int], float]:
    """Return a function from optimizer step to learning rate, as a factor of the peak.

    Warm-up is included.

    Args:
        recipe: with the schedule.
        steps_per_epoch: optimizer steps in one pass.
        epochs: passes of the phase.
    """
    shapes = SHAPES | {Schedule.step: partial(step, milestones=recipe.milestones or (0.75, 0.9))}
    total, warmup = steps_per_epoch * epochs, round(recipe.warmup_epochs * steps_per_epoch)

    def at(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if recipe.schedule is Schedule.constant:
            return 1.0
        if recipe.schedule is Schedule.cosine_authors:
            return cosine_authors(min(step // steps_per_epoch, epochs - 1), epochs)
        # planned before the epochs are divided by the replays
        if recipe.schedule is Schedule.cosine_authors_free:
            return cosine_authors(min(step // steps_per_epoch, epochs - 1), recipe.epochs)
        return shapes[recipe.schedule](min((step - warmup) / max(total - warmup, 1), 1.0))

    return at
