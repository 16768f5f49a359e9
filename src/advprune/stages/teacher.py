"""Lend the dense network to an objective that learns from it."""

import inspect
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from advprune.errors import UserError
from advprune.modules.remembered_attack import Objective
from advprune.stages.checkpoint import dense_stage, load_network
from advprune.store.stage import Stage


class Teacher:
    """Return a network's logits on whatever device the images are; it trains and moves no more.

    Args:
        net: in eval mode.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net.eval().requires_grad_(False)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (N, K) at images (N, C, H, W)."""
        logits: Tensor = self.net.to(x.device)(x)
        return logits


def wants_teacher(objective: Objective) -> bool:
    """Return whether an objective takes a teacher."""
    return "teacher" in inspect.signature(objective).parameters


def taught(objective: Objective, stage: Stage[Any], folder: Path) -> Objective:
    """Return the objective with the dense network of the stage's line as its teacher.

    Args:
        objective: that may take a teacher; another is returned as it is.
        stage: that trains.
        folder: of the stage.
    """
    if not wants_teacher(objective):
        return objective
    dense = dense_stage(stage)
    net = load_network(dense, folder.parents[1] / dense.kind / dense.key)
    return partial(objective, teacher=Teacher(net))


def refuse_without_teacher(objective: Objective) -> None:
    """Check that dense training, which has no teacher, needs none.

    Raises:
        UserError: if it does.
    """
    if wants_teacher(objective):
        raise UserError(
            "this objective learns from the dense network and cannot train it: give another to "
            "dense training, as objective=distillation does, or the network's weights, dense=FILE"
        )
