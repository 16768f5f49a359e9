"""Whether bounds, noise and certifiers can work on a job's network, before an epoch is spent on it."""

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


def rehearse_objective(options: dict[str, Any], fresh: Fresh) -> None:
    """Bound no image, and take the loss of two, in every phase of the job; only of objectives with bounds or noise.

    Raises:
        UserError: what the first step of training would have raised.
    """
    phases = (None, "search", "finetune") if options.get("pruner") else (None,)
    for phase in phases:
        chosen = of_phase(options["objective"], phase)
        if not {"bound", "sigma"} & chosen.keys():
            return
        objective, net = factories.objective({"objective": chosen}), fresh(options).train()
        given: dict[str, Any] = {}
        x, y = _images(options, 2)
        # reading the network is what may fail; of real images it may take minutes
        if "bound" in chosen:
            classes = objective.keywords["bound"](net, x[:0], y[:0]).shape[1]
            given["bound"] = lambda _, some, *__, classes=classes, **___: torch.zeros(
                len(some), classes
            )
        for progress in (0.0, 0.99):
            partial(objective, **given)(net, x, y, progress=progress)


def rehearse_certifier(attack: Callable[..., Any], options: dict[str, Any], fresh: Fresh) -> None:
    """Ask a certifier for the certificates of no image: it looks at its options and reads the network.

    Raises:
        UserError: what its first batch would have raised.
    """
    if inspect.signature(attack).return_annotation is Certificate:
        x, y = _images(options, 0)
        attack(fresh(options).eval(), x, y, positions=y)


def _images(options: dict[str, Any], count: int) -> tuple[Tensor, Tensor]:
    dataset = options["dataset"]
    side = dataset["image_size"]
    return torch.rand(count, dataset["channels"], side, side), torch.zeros(count, dtype=torch.int64)
