"""Rebuild a stage's network from the store: its architecture, its structure, its weights."""

from pathlib import Path
from typing import Any

from torch import nn

from advprune.errors import UserError
from advprune.modules.weights_io import load_weights
from advprune.stages import factories
from advprune.store.stage import Stage
from advprune.surgery import structure


def model_options(stage: Stage) -> dict[str, Any]:
    """Return the options of the network at the root of a stage's line."""
    while stage.parent is not None:
        stage = stage.parent
    return stage.options


def image_shape(stage: Stage) -> tuple[int, int, int]:
    """Return (C, H, W) of the images that the root of a stage's line was built for."""
    model = model_options(stage)["model"]
    return int(model["in_channels"]), int(model["image_size"]), int(model["image_size"])


def load_network(
    stage: Stage, folder: Path, *, weights: str = "model.safetensors", seed: int = 0
) -> nn.Module:
    """Return the network that a stage of this line left in ``folder``, in eval mode.

    Args:
        stage: any stage of the line; it says how the network is built.
        folder: of the stage that left it.
        weights: the file of the folder to load.
        seed: what torch's global generator is left at.

    Args:
        stage: any stage of the line; it says how the network is built.
        weights: the file of the folder to load.
        seed: what torch's global generator is left at.

    Raises:
        UserError: if filters or blocks are missing from the weights and no structure says which.
    """
    net = factories.network(model_options(stage), seed=seed)
    tensors = load_weights(folder / weights)
    shape_like(net, tensors, folder)
    net.load_state_dict(tensors)
    return net.eval()


def shape_like(net: nn.Module, tensors: dict[str, Any], folder: Path) -> bool:
    """Cut ``net`` in place to the structure beside the weights; return whether there is one.

    Raises:
        UserError: see ``load_network``.
    """
    path = folder / structure.FILE
    if path.exists():
        structure.rebuild(net, structure.load(path))
        return True
    if structure.misses_structure(net, tensors):
        raise UserError(
            f"the weights in {folder} are of a {type(net).__name__} that lost filters or blocks, "
            f"and {path} is not there: put the structure.json that was saved with them beside them"
        )
    return False
