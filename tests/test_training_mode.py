"""Every phase trains in training mode, although a loaded network comes in eval mode and Lightning leaves it so."""

import pytest
import pytorch_lightning as pl
import torch
from processes import task
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from advprune.modules.pruner_training import PrunerTraining
from advprune.modules.recipe import Recipe
from advprune.modules.training import RobustTraining
from advprune.pruners.hydra import Hydra


def a_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    ).eval()


def objective(model: nn.Module, x: Tensor, y: Tensor, *, progress: float) -> Tensor:
    return nn.functional.cross_entropy(model(x), y)


def fit(module: RobustTraining) -> None:
    data = DataLoader(TensorDataset(torch.rand(8, 1, 8, 8) + 3, torch.arange(8) % 2), batch_size=4)
    pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, data, data)


def test_training_updates_the_statistics_of_a_network_that_came_in_eval_mode() -> None:
    net = a_net()
    fit(RobustTraining(net, objective, Recipe(epochs=2, learning_rate=0.0), attack=None, seed=0))
    assert int(net[1].num_batches_tracked) == 4
    assert torch.all(net[1].running_mean != 0)


@pytest.mark.parametrize(("bn", "batches"), [("train", 4), ("freeze_affine", 4), ("freeze_all", 0)])
def test_a_search_does_with_statistics_what_its_option_says(bn: str, batches: int) -> None:
    net = a_net()
    process = Hydra(net, task(net, 0.5), bn=bn)
    phase = Recipe(epochs=2, learning_rate=0.0)
    fit(PrunerTraining(net, objective, phase, attack=None, seed=0, process=process))
    assert int(net[1].num_batches_tracked) == batches
