"""Rebuild a stage's network from the store: its architecture, its structure, its weights.

The dense one is lent to objectives that learn from it.
"""

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advprune.config.groups import Method, Network
from advprune.config.stage_options import Dense
from advprune.errors import UserError
from advprune.modules.remembered_attack import Objective
from advprune.modules.weights_io import load_weights
from advprune.store.stage import Stage
from advprune.surgery import structure

NO_EARLY_WEIGHTS = (
    "pruner.recovery=rewind and pruner.start=early go back to early weights, and this dense "
    "network came from a file; use recovery=finetune or scratch, start=dense or init, or train the "
    "dense network here"
)


def network(model: Method, *, seed: int) -> nn.Module:
    """Return the freshly initialised network; ``seed`` decides its weights."""
    torch.manual_seed(seed)
    net: nn.Module = model.build()
    return net


def dense_stage(stage: Stage[Any]) -> Stage[Dense]:
    """Return the dense network's stage, from which a stage's line starts."""
    while stage.parent is not None:
        stage = stage.parent
    return stage


def dense_folder(stage: Stage[Any], folder: Path) -> Path:
    """Return the folder of the dense network of a stage's line, by the folder of the stage."""
    dense = dense_stage(stage)
    return folder.parents[1] / dense.kind / dense.key


def is_foreign(stage: Stage[Any]) -> bool:
    """Return whether the dense network of a stage's line was read from a file."""
    return dense_stage(stage).options.weights is not None


def network_of(stage: Stage[Any]) -> Network:
    """Return the call that builds the network of a stage's line."""
    return dense_stage(stage).options.model


def early_weights(stage: Stage[Any], folder: Path) -> dict[str, Tensor]:
    """Return the dense network's early weights; ``folder`` is the stage's.

    Raises:
        UserError: if there are none, because the dense network came from a file.
    """
    path = dense_folder(stage, folder) / "early.safetensors"
    if not path.exists():
        raise UserError(NO_EARLY_WEIGHTS)
    return load_weights(path)


def image_shape(stage: Stage[Any]) -> tuple[int, int, int]:
    """Return (C, H, W) of the images that the network of a stage's line was built for."""
    return network_of(stage).image_shape


def load_network(
    stage: Stage[Any], folder: Path, *, weights: str = "model.safetensors", seed: int = 0
) -> nn.Module:
    """Return the network that a stage of this line left in ``folder``, in eval mode.

    Args:
        stage: any stage of the line; it says how the network is built.
        folder: of the stage that left it.
        weights: the file of the folder to load.
        seed: what torch's global generator is left at.
    """
    net, smaller = network(network_of(stage), seed=seed), folder / structure.FILE
    if smaller.exists():  # filters or blocks were removed
        structure.rebuild(net, structure.load(smaller))
    net.load_state_dict(load_weights(folder / weights))
    return net.eval()


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
    return partial(objective, teacher=Teacher(load_network(stage, dense_folder(stage, folder))))


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
