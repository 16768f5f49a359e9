"""Faults that users of other pruning code reported, tried on every process that a YAML names.

Dead weights that momentum revives (he-y/filter-pruning-geometric-median#47), a network that is
measured with other masks than it is kept with (openvinotoolkit/nncf#212); masks that a resumed run
forgets (IntelLabs/distiller#76) are N2 of test_process_conformance.py.
"""

import pytest
import pytorch_lightning as pl
import torch
from processes import convnet, fit, module_of, recipe
from test_process_conformance import EVERY, differing, made, module_for, revived
from torch import Tensor

from advprune.modules.pruner_training import PrunerTraining
from advprune.modules.recipe import Optimizer, Recipe


@EVERY
@pytest.mark.parametrize(
    "phase",
    [
        recipe(learning_rate=0.01, optimizer=Optimizer.adam),
        recipe(learning_rate=0.1, momentum=0.99, nesterov=True),
    ],
    ids=["adam", "nesterov"],
)
def test_no_optimizer_revives_what_is_dead(name: str, phase: Recipe) -> None:
    net = convnet()
    module = module_of(made(name, net), net, phase)
    fit(module)
    assert revived(module) == []
    module.finish()
    state, masks = module.net.export()
    assert all(not state[weight][~mask].any() for weight, mask in masks.items())


class Kept(pl.Callback):
    """Note the network that is validated, and the one that is there when an epoch is over."""

    def __init__(self) -> None:
        self.validated: list[dict[str, Tensor]] = []
        self.kept: list[dict[str, Tensor]] = []

    def on_validation_end(self, trainer: pl.Trainer, module: PrunerTraining) -> None:
        self.validated.append(computed(module))

    def on_train_epoch_start(self, trainer: pl.Trainer, module: PrunerTraining) -> None:
        if trainer.current_epoch:
            self.kept.append(computed(module))

    def on_fit_end(self, trainer: pl.Trainer, module: PrunerTraining) -> None:
        self.kept.append(computed(module))


def computed(module: PrunerTraining) -> dict[str, Tensor]:
    with torch.no_grad():
        weights = module.process.weights.items()
        return {name: module.process.effective(name, weight).clone() for name, weight in weights}


@EVERY
def test_an_epoch_keeps_the_network_that_was_measured(name: str) -> None:
    module, noted = module_for(name, convnet()), Kept()
    fit(module, callbacks=[noted])
    assert len(noted.kept) == len(noted.validated) >= 5
    for kept, validated in zip(noted.kept, noted.validated, strict=True):
        assert differing(kept, validated) == []
