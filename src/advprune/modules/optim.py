"""Make a recipe's optimizer and the learning rate of each step."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

import advprune.schedules as schedules
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


def factor(recipe: Recipe, *, steps_per_epoch: int, epochs: int) -> Callable[[int], float]:
    """Return a function from optimizer step to learning rate, as a factor of the peak.

    Warm-up is included.

    Args:
        recipe: with the schedule.
        steps_per_epoch: optimizer steps in one pass.
        epochs: passes of the phase.
    """
    total, warmup = steps_per_epoch * epochs, round(recipe.warmup_epochs * steps_per_epoch)

    def at(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if recipe.schedule is Schedule.constant:
            return 1.0
        if recipe.schedule is Schedule.cosine_authors:
            return schedules.cosine_authors(min(step // steps_per_epoch, epochs - 1), epochs)
        # planned before the epochs are divided by the replays
        if recipe.schedule is Schedule.cosine_authors_free:
            return schedules.cosine_authors(min(step // steps_per_epoch, epochs - 1), recipe.epochs)
        shape = {
            Schedule.cosine: schedules.cosine,
            Schedule.step: schedules.step,
            Schedule.step_half: schedules.step_half,
            Schedule.one_cycle: schedules.one_cycle,
        }[recipe.schedule]
        return shape(min((step - warmup) / max(total - warmup, 1), 1.0))

    return at
