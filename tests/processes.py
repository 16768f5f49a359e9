"""Small networks, tasks and batches for the tests of pruners that train."""

from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from advprune.attacks.pgd import pgd
from advprune.logits import kl
from advprune.masks import Masks, Scores, prunable
from advprune.modules.pruner_training import PrunerTraining
from advprune.modules.recipe import Recipe
from advprune.modules.training import RobustTraining
from advprune.objectives.trades import trades
from advprune.pruners import scopes
from advprune.pruners.hydra import Hydra
from advprune.pruners.learned_scores import initial_scores
from advprune.pruners.process import Moment, Process
from advprune.pruners.task import Task
from advprune.surgery.subnet import Subnet
from advprune.threat import Linf

#: TRADES against two steps of PGD, which draws.
OBJECTIVE = partial(
    trades,
    attack=partial(pgd, threat=Linf(0.1), steps=2, rel_step=0.5, loss=kl, start="gaussian"),
)


def convnet(seed: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(128, 4),
    ).eval()


def batches(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    drawn = torch.Generator().manual_seed(5)
    return [
        (torch.rand(8, 1, 8, 8, generator=drawn), torch.randint(4, (8,), generator=drawn))
        for _ in range(count)
    ]


def recipe(**options: Any) -> Recipe:
    return Recipe(**{"epochs": 6, "learning_rate": 0.3, "batch_size": 8} | options)


def task(
    net: nn.Module,
    ratio: float,
    *,
    scope: Any = "layer",
    ratios: tuple[float, ...] | None = None,
    within: Masks | None = None,
    seed: int = 7,
    through: Any = None,
) -> Task:
    spend = partial(scopes.spend, scope=scope)
    names = tuple(prunable(net))
    return Task(ratio, spend, names, seed, ratios or (ratio,), within, through=through)


def searching(
    net: nn.Module, ratio: float = 0.7, scores: Scores | None = None, bn: Any = "train"
) -> Subnet:
    """A network in HYDRA's search, seen through the masks of its scores."""
    process = Hydra(net, task(net, ratio), bn=bn)
    with torch.no_grad():
        for name, score in (scores or {}).items():
            process.score(name).copy_(score)
    process.groups(net)
    process.start(net, [])
    return Subnet(net, process=process)


def trained(subnet: Subnet) -> list[nn.Parameter]:
    return [parameter for parameter in subnet.parameters() if parameter.requires_grad]


def hydras(subnet: Subnet) -> Hydra:
    assert isinstance(subnet.process, Hydra)
    return subnet.process


def lwm(net: nn.Module, ratio: float) -> Masks:
    """The masks that a search starts from."""
    asked = task(net, ratio)
    return asked.masks({n: s.abs() for n, s in scaled(net).items()})


def scaled(net: nn.Module) -> Scores:
    return initial_scores(prunable(net), init="scaled", seed=0)


def at(step: int, steps: int = 100, epochs: int = 10) -> Moment:
    return Moment(step, steps, step * epochs // steps, epochs)


def of_sizes(*sizes: int) -> nn.Sequential:
    """A network of linear layers with so many weights, which is never called."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(size, 1, bias=False) for size in sizes))


def module_of(
    process: Process, net: nn.Module, phase: Recipe | None = None, **options: Any
) -> PrunerTraining:
    attack = partial(pgd, threat=Linf(0.1), steps=1)
    given = {"attack": attack, "seed": 7, "batches": batches()} | options
    return PrunerTraining(net, OBJECTIVE, phase or recipe(), process=process, **given)


def fit(module: RobustTraining, epochs: int | None = None, **options: Any) -> None:
    data = DataLoader(batches(), batch_size=None)
    chosen = {"enable_checkpointing": False} | options
    resume = chosen.pop("ckpt_path", None)
    pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs or module.recipe.epochs,
        gradient_clip_val=module.recipe.clip,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,
        **chosen,
    ).fit(module, data, data, ckpt_path=resume)
