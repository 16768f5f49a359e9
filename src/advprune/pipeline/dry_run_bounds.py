"""Try bounds, noise and certifiers on a job's own network, for the dry run."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advprune.bounds.certificate import Certificate
from advprune.config.phases import of_phase
from advprune.stages import factories

Fresh = Callable[[dict[str, Any]], nn.Module]


def try_objective(options: dict[str, Any], fresh: Fresh) -> None:
    """Bound no image, and take the loss of two, in every phase with bounds or noise.

    Raises:
        UserError: what the first step of training would have raised.
    """
    phases = (None, "search", "finetune") if options.get("pruner") else (None,)
    for phase in phases:
        chosen = of_phase(options["objective"], phase)
        if not {"bound", "sigma"} & chosen.keys():
            return
        objective, net = factories.objective({"objective": chosen}), fresh(options).train()
        x, y = _images(options, 2)
        if "bound" in chosen:  # reading the network may fail; bounding images may take minutes
            classes = objective.keywords["bound"](net, x[:0], y[:0]).shape[1]
            objective = partial(objective, bound=partial(_no_bound, classes=classes))
        for progress in (0.0, 0.99):
            objective(net, x, y, progress=progress)


def try_certifier(attack: Callable[..., Any], options: dict[str, Any], fresh: Fresh) -> None:
    """Ask a certifier for the certificates of no image: it checks its options and the network.

    Raises:
        UserError: what its first batch would have raised.
    """
    if inspect.signature(attack).return_annotation is Certificate:
        x, y = _images(options, 0)
        attack(fresh(options).eval(), x, y, positions=y)


def _no_bound(model: nn.Module, x: Tensor, *_: Any, classes: int, **__: Any) -> Tensor:
    return torch.zeros(len(x), classes)


def _images(options: dict[str, Any], count: int) -> tuple[Tensor, Tensor]:
    dataset = options["dataset"]
    side = dataset["image_size"]
    return torch.rand(count, dataset["channels"], side, side), torch.zeros(count, dtype=torch.int64)
