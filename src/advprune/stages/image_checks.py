"""Check, before anything is trained, that the images suffice to train, choose and attack."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from advprune.errors import UserError

Fresh = Callable[[dict[str, Any]], nn.Module]


def check(options: dict[str, Any], fresh: Fresh) -> None:
    """Refuse what would fail after the dense network was trained, or in its first step.

    Args:
        options: of the job.
        fresh: options -> the job's network with new weights.

    Raises:
        UserError: naming the option and the cure.
    """
    if options.get("checkpoint") is not None:  # nothing is trained
        return
    if options["dataset"].get("validation") == 0:
        check_choice(options["select"]["keep"], 0)
    _check_batches(options, fresh)


def check_choice(keep: str, images: int) -> None:
    """Check that there are images to choose the best epoch by.

    Raises:
        UserError: if the best is to be kept and no image validates.
    """
    if keep == "best" and not images:
        raise UserError(
            "no image validates (dataset.validation), so that the best epoch is not known: give "
            "select.keep=last, or hold images out, such as dataset.validation=0.1"
        )


def _check_batches(options: dict[str, Any], fresh: Fresh) -> None:
    """Train on one image, if a batch holds one: BatchNorm may then see a single value a channel."""
    pruner = options.get("pruner")
    phases = {"training": options.get("dense") is None}
    if pruner is not None:
        phases |= {"search": bool(pruner["search"]), "finetune": True}
    single = [name for name, runs in phases.items() if runs and options[name]["batch_size"] == 1]
    if not single or options["dataset"].get("extra") is not None:
        return
    dataset = options["dataset"]
    image = torch.zeros(1, dataset["channels"], dataset["image_size"], dataset["image_size"])
    try:
        fresh(options).train()(image)
    except ValueError as error:  # as torch says that a channel has one value
        raise UserError(
            f"{single[0]}.batch_size=1 is not possible with this network ({error}): give at least "
            "2, for its BatchNorm normalises by the images of a batch"
        ) from None
