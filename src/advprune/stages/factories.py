"""Make what a stage's plain options name: data, network, objective, attack."""

from typing import Any

import torch
from torch import nn

from advprune.attacks.pgd import pgd
from advprune.config.instantiate import build
from advprune.config.validate import method_options
from advprune.modules.recipe import Optimizer, Recipe, Schedule
from advprune.store.keys import without


def data(options: dict[str, Any], *, batch_size: int, repeats: int = 1) -> Any:
    """Return the data module of a stage's data set.

    Args:
        options: of the stage; at most ``select.images`` images validate.
        batch_size: images a step.
        repeats: how often each batch is trained on in one pass.
    """
    dataset, val_images = options["dataset"], options.get("select", {}).get("images")
    image_facts = {name: dataset[name] for name in ("num_classes", "channels", "image_size")}
    return build(
        method_options("dataset", dataset),
        **image_facts,
        seed=options["seed"],
        batch_size=batch_size,
        val_images=val_images,
        repeats=repeats,
    )


def network(options: dict[str, Any], *, seed: int) -> nn.Module:
    """Return the freshly initialised network; ``seed`` decides its weights."""
    torch.manual_seed(seed)
    return build(options["model"])


def objective(options: dict[str, Any]) -> Any:
    """Return the objective, its threat and its inner attack bound."""
    return build(method_options("objective", options["objective"]))


def attack(options: dict[str, Any]) -> Any:
    """Return the attack, its options bound."""
    return build(without(method_options("attack", options["attack"]), "content_id"))


def threat(options: dict[str, Any]) -> Any:
    """Return the perturbation set."""
    return build(options["threat"])


def recipe(options: dict[str, Any]) -> Recipe:
    """Return a training phase's recipe, from plain values."""
    values = {name: value for name, value in options.items() if value is not None}
    values |= {
        "optimizer": Optimizer[values["optimizer"]],
        "schedule": Schedule[values["schedule"]],
    }
    return Recipe(**values)


def validation_attack(options: dict[str, Any]) -> Any:
    """Return the PGD that validation images are measured under; None for clean accuracy."""
    if options["select"]["metric"] == "clean_acc":
        return None
    steps, ball = int(options["select"]["steps"]), threat(options)
    return lambda net, x, y: pgd(net, x, y, threat=ball, steps=steps, rel_step=2.5 / steps)
