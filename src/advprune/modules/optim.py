"""From a recipe to an optimizer and the learning rate of each step."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from advprune import schedules
from advprune.modules.recipe import Optimizer, Recipe, Schedule


def optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimizer over these parameters; Adam's decay is coupled (L2), as in the papers."""
    common = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.optimizer is Optimizer.adam:
        return torch.optim.Adam(parameters, **common)
    return torch.optim.SGD(parameters, momentum=recipe.momentum, nesterov=bool(recipe.nesterov), **common)


def factor(recipe: Recipe, *, steps_per_epoch: int, epochs: int) -> Callable[[int], float]:
    """The learning rate at optimizer step ``n`` as a factor of the peak, warm-up included.

    Args:
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
        shape = {Schedule.cosine: schedules.cosine, Schedule.step: schedules.step, Schedule.step_half: schedules.step_half,
                 Schedule.one_cycle: schedules.one_cycle}[recipe.schedule]  # fmt: skip
        return shape(min((step - warmup) / max(total - warmup, 1), 1.0))

    return at
