"""Call attack, network, objective and criterion on two random images, for the dry run."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advprune.bounds.certificate import proves
from advprune.config.instantiate import build
from advprune.config.phases import of_phase
from advprune.datasets.images import subset
from advprune.errors import UserError
from advprune.frozen import preserve_rng
from advprune.stages import factories, masking
from advprune.stages.finetuned import NO_EARLY_WEIGHTS

#: A batch of the smallest size that is one.
IMAGES = 2


def try_attack(attack: Callable[..., Any], options: dict[str, Any]) -> None:
    """Attack a linear stand-in for the network, on two images that it has wrong already.

    Raises:
        UserError: what the first batch would have raised after all training.
    """
    # of a transfer attack: what is run on its source
    inner = getattr(attack, "keywords", {}).get("inner") or attack
    if proves(inner) or "root" in getattr(inner, "keywords", {}):  # the latter reads its own images
        return
    net, (x, y) = _linear_network(options["dataset"]), _images(options["dataset"])
    takes_positions = "positions" in inspect.signature(inner).parameters
    positions = {"positions": torch.arange(len(y))} if takes_positions else {}
    with preserve_rng():
        inner(net, x, net(x).argmin(1), **positions)


def try_network(options: dict[str, Any], net: nn.Module) -> None:
    """Call the untrained network on two images of the data set's size.

    Raises:
        UserError: if it cannot take them.
    """
    x, _ = _images(options["dataset"])
    try:
        with torch.no_grad():
            net.eval()(x)
    except RuntimeError as error:
        side = options["dataset"]["image_size"]
        raise UserError(
            f"this {type(net).__name__} cannot take images of {side} x {side} pixels "
            f"({str(error).splitlines()[0]}): choose another model, or other options of it"
        ) from error


def try_objective(options: dict[str, Any]) -> None:
    """Take the loss of two images in every phase of the job, but for objectives with bounds.

    Raises:
        UserError: what the first step of training would have raised.
    """
    phases = (None, "search", "finetune") if options.get("pruner") else (None,)
    for phase in phases:
        chosen = of_phase(options["objective"], phase)
        if "bound" in chosen:
            return
        with preserve_rng():
            x, y = _images(options["dataset"])
            net = _linear_network(options["dataset"])
            factories.objective({"objective": chosen})(net, x, y, progress=0.0)


def try_criterion(options: dict[str, Any], net: nn.Module) -> None:
    """Score what the pruner may remove, on two images and without the criterion's own attack.

    Raises:
        UserError: if the criterion leaves something without a score, or refuses its options.
    """
    pruner = options["pruner"]
    if pruner["criterion"] is None:
        return
    criterion: partial[Any] = build(pruner["criterion"])
    structured = "sites" in inspect.signature(criterion).parameters
    if structured != (pruner["unit"] is not None):
        scored, unit = (
            ("filters or blocks", "filters") if structured else ("single weights", "null")
        )
        raise UserError(
            f"pruner.unit={pruner['unit'] or 'null'} does not fit {criterion.func.__name__}, which "
            f"scores {scored}: give pruner.unit={unit}, or another criterion"
        )
    if structured:
        return
    if "attack" in criterion.keywords:
        criterion = partial(criterion, attack=None)
    with preserve_rng():
        masking.scores_of(criterion, net, [_images(options["dataset"])], pruner)


def check_images(options: dict[str, Any]) -> None:
    """Refuse to attack more test images than there are.

    Raises:
        UserError: naming how many there are.
    """
    if options["attack"].get("images") is not None:
        data = factories.data(options, batch_size=1)
        subset(data.sizes["test"], options["attack"]["images"], option="attack.images")


def check_start(options: dict[str, Any]) -> None:
    """Refuse to rewind to the early weights of a network that came from a file.

    Raises:
        UserError: that there are none.
    """
    if options.get("dense") is not None and options["pruner"]["recovery"] == "rewind":
        raise UserError(NO_EARLY_WEIGHTS)


def _linear_network(dataset: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    pixels = dataset["channels"] * dataset["image_size"] ** 2
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, dataset["num_classes"])).eval()


def _images(dataset: dict[str, Any]) -> tuple[Tensor, Tensor]:
    side = dataset["image_size"]
    levels = torch.randint(256, (IMAGES, dataset["channels"], side, side))
    return levels.float() / 255, torch.arange(IMAGES)
