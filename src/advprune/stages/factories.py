"""Make what a stage's options name: network, images, validation attack."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.config.groups import Method
from advprune.config.stage_options import Training

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


def network(model: Method, *, seed: int) -> nn.Module:
    """Return the freshly initialised network; ``seed`` decides its weights."""
    torch.manual_seed(seed)
    net: nn.Module = model.build()
    return net


def training_data(training: Training, *, batch_size: int, repeats: int = 1) -> Any:
    """Return the data module of a phase; at most ``select.images`` images validate.

    Args:
        training: of the phase.
        batch_size: images a step.
        repeats: how often each batch is trained on in one pass.
    """
    return training.dataset.build(
        seed=training.seed,
        batch_size=batch_size,
        val_images=training.select.images,
        repeats=repeats,
    )


def validation_attack(training: Training) -> Attack | None:
    """Return the PGD that validation images are measured under; None for clean accuracy."""
    if training.select.metric == "clean_acc":
        return None
    steps, ball = training.select.steps, training.threat.build()
    return lambda net, x, y: pgd(net, x, y, threat=ball, steps=steps, rel_step=2.5 / steps)
