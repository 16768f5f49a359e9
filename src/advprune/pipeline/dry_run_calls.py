"""Call attack, network, objective and certifier on two random images, for the dry run."""

import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advprune.config.options import Options
from advprune.datasets.images import subset
from advprune.errors import UserError
from advprune.frozen import preserve_rng
from advprune.logits import check
from advprune.stages import checkpoint
from advprune.threat import Certificate, proves

#: A batch of the smallest size that is one.
IMAGES = 2


def try_attack(attack: partial[Any], options: Options) -> None:
    """Attack a linear stand-in for the network, on two images that it has wrong already.

    Raises:
        UserError: what the first batch would have raised after all training.
    """
    inner = attack.keywords.get("inner") or attack  # of a transfer attack: what its source meets
    if proves(inner) or "root" in getattr(inner, "keywords", {}):  # the latter reads its own images
        return
    net, (x, y) = _linear_network(options), images(options)
    takes_positions = "positions" in inspect.signature(inner).parameters
    positions = {"positions": torch.arange(len(y))} if takes_positions else {}
    with preserve_rng():
        inner(net, x, net(x).argmin(1), **positions)


def try_network(options: Options, net: nn.Module) -> None:
    """Call the untrained network on two images of the data set's size.

    Raises:
        UserError: if it cannot take them, or returns no logits.
    """
    x, _ = images(options)
    try:
        with torch.no_grad():
            logits = net.eval()(x)
    except RuntimeError as error:
        side = options.dataset.image_size
        raise UserError(
            f"this {type(net).__name__} cannot take images of {side} x {side} pixels "
            f"({str(error).splitlines()[0]}): choose another model, or other options of it"
        ) from error
    check(logits, images=IMAGES, classes=int(options.model.node["num_classes"]))


def try_objectives(options: Options) -> None:
    """Take the loss of two images in every phase of the job, but for objectives with bounds.

    Raises:
        UserError: what the first step of training would have raised.
    """
    for phase in options.phases:
        objective = options.objective.in_phase(phase)
        goal = objective.build()
        if "bound" in objective.method:
            return
        if phase is None and options.weights is None:
            checkpoint.refuse_without_teacher(goal)
        with preserve_rng():
            x, y = images(options)
            net = _linear_network(options)
            goal = partial(goal, teacher=net) if checkpoint.wants_teacher(goal) else goal
            goal(net, x, y, progress=0.0)


def try_bounds(options: Options) -> None:
    """Bound no image, and take the loss of two, in every phase with bounds or noise.

    Raises:
        UserError: what the first step of training would have raised.
    """
    for phase in options.phases:
        chosen = options.objective.in_phase(phase)
        if "bound" not in chosen.method and "sigma" not in chosen.method:
            return
        objective, net = chosen.build(), checkpoint.network(options.model, seed=0).train()
        x, y = torch.rand(IMAGES, *options.model.image_shape), torch.zeros(IMAGES).long()
        if "bound" in chosen.method:  # reading the network may fail; bounding images takes minutes
            classes = objective.keywords["bound"](net, x[:0], y[:0]).shape[1]
            objective = partial(objective, bound=partial(_no_bound, classes=classes))
        for progress in (0.0, 0.99):
            objective(net, x, y, progress=progress)


def try_certifier(attack: partial[Any], options: Options) -> None:
    """Ask a certifier for the certificates of no image: it checks its options and the network.

    Raises:
        UserError: what its first batch would have raised.
    """
    if inspect.signature(attack).return_annotation is Certificate:
        x, y = torch.rand(0, *options.model.image_shape), torch.zeros(0).long()
        attack(checkpoint.network(options.model, seed=0).eval(), x, y, positions=y)


def count_images(options: Options, count: int) -> None:
    """Read the data set, and refuse to attack more test images than it has.

    Raises:
        UserError: naming how many there are.
    """
    data = options.dataset.build(seed=options.seed, batch_size=1)
    subset(data.sizes["test"], count, option="attack.images")


def images(options: Options) -> tuple[Tensor, Tensor]:
    """Return two images of random pixels, and two labels."""
    levels = torch.randint(256, (IMAGES, *options.model.image_shape))
    return levels.float() / 255, torch.arange(IMAGES)


def _no_bound(model: nn.Module, x: Tensor, *_: object, classes: int, **__: object) -> Tensor:
    return torch.zeros(len(x), classes)


def _linear_network(options: Options) -> nn.Module:
    torch.manual_seed(0)
    channels, side, _ = options.model.image_shape
    classes = int(options.model.node["num_classes"])
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, classes)).eval()
