"""HYDRA's search and pruning in rounds give, bit for bit, what they gave before they were processes."""

import copy
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import slow_pruning as slow
import torch
from torch import nn
from torch.utils.data import DataLoader

from advprune.attacks.pgd import pgd
from advprune.logits import kl
from advprune.masks import Masks, prunable
from advprune.modules.pruner_training import PrunerTraining
from advprune.modules.recipe import Optimizer, Recipe, Schedule
from advprune.modules.training import RobustTraining
from advprune.objectives.trades import trades
from advprune.pruners import scopes
from advprune.pruners.hydra import Hydra
from advprune.pruners.learned_scores import initial_scores
from advprune.pruners.magnitude import magnitude
from advprune.pruners.rounds import Rounds
from advprune.pruners.task import Task
from advprune.threat import Linf

OBJECTIVE = partial(
    trades,
    attack=partial(pgd, threat=Linf(0.1), steps=2, rel_step=0.5, loss=kl, start="gaussian"),
)


def convnet() -> nn.Sequential:
    torch.manual_seed(3)
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


def batches() -> slow.Batches:
    drawn = torch.Generator().manual_seed(5)
    return [
        (torch.rand(8, 1, 8, 8, generator=drawn), torch.randint(4, (8,), generator=drawn))
        for _ in range(3)
    ]


def recipe(**options: Any) -> Recipe:
    return Recipe(**{"epochs": 6, "learning_rate": 0.3, "batch_size": 8} | options)


def sparse(net: nn.Module) -> Masks:
    """Take a fifth of the weights away beforehand."""
    masks = scopes.global_({n: w.detach().abs() for n, w in prunable(net).items()}, 0.2)
    slow.put(prunable(net), {n: w.detach() * masks[n] for n, w in prunable(net).items()})
    return masks


def fit(module: RobustTraining, epochs: int) -> None:
    data = DataLoader(batches(), batch_size=None)
    pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        gradient_clip_val=module.recipe.clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,
    ).fit(module, data, data)


SEARCHES = {
    "layer": {},
    "global": {"scope": "global", "ratios": [0.9]},
    "erk, three rounds": {"scope": "erk", "ratios": [0.3, 0.6, 0.9]},
    "affine frozen": {"bn": "freeze_affine"},
    "all frozen": {"bn": "freeze_all", "init": "kaiming"},
    "of a sparse network": {"within": True, "scope": "global", "init": "magnitude"},
    "adam, clipped": {"recipe": recipe(optimizer=Optimizer.adam, learning_rate=0.03, clip=0.5)},
    "one cycle": {"recipe": recipe(schedule=Schedule.one_cycle, nesterov=True, warmup_epochs=1.0)},
}


@pytest.mark.parametrize("case", SEARCHES.values(), ids=SEARCHES.keys())
def test_a_search_is_the_plain_loop(case: dict[str, Any]) -> None:
    options = {"scope": "layer", "ratios": [0.8], "bn": "train", "init": "scaled"} | case
    init, phase = options.pop("init"), options.pop("recipe", recipe())
    net = convnet()
    within = sparse(net) if options.pop("within", False) else None
    start = initial_scores(prunable(net), init=init, seed=7)
    expected = slow.search(
        copy.deepcopy(net), start, OBJECTIVE, phase, batches(), within=within, **options
    )
    found = searched(net, init, phase, within=within, **options)
    assert not list(slow.different(found, expected))
    assert any(not torch.equal(found.scores[n], s) for n, s in start.items())  # it did move


def searched(
    net: nn.Module,
    init: Any,
    phase: Recipe,
    *,
    scope: Any,
    ratios: list[float],
    bn: str,
    within: Masks | None,
) -> slow.Ended:
    task = Task(
        ratios[-1], partial(scopes.spend, scope=scope), names(net), 7, tuple(ratios), within
    )
    process = Hydra(net, task, init=init, bn=bn)
    module = PrunerTraining(
        net,
        OBJECTIVE,
        phase,
        attack=partial(pgd, threat=Linf(0.1), steps=1),
        seed=7,
        process=process,
    )
    fit(module, phase.epochs)
    module.finish()
    state, masks = module.net.export()
    return slow.Ended(masks, state, process.scores(), [])


def names(net: nn.Module) -> tuple[str, ...]:
    return tuple(prunable(net))


ROUNDS = {
    "layer": {"ratios": [0.5, 0.8]},
    "global, three rounds": {"scope": "global", "ratios": [0.3, 0.6, 0.9]},
    "of a sparse network": {"scope": "global", "ratios": [0.4, 0.7], "within": True},
    "adam": {"ratios": [0.5, 0.8], "recipe": recipe(optimizer=Optimizer.adam, learning_rate=0.01)},
    "clipped": {"ratios": [0.5, 0.8], "recipe": recipe(clip=0.5, nesterov=True)},
}


@pytest.mark.parametrize("case", ROUNDS.values(), ids=ROUNDS.keys())
def test_rounds_are_the_plain_loop(case: dict[str, Any]) -> None:
    options = {"scope": "layer"} | case
    scope, phase = options["scope"], options.get("recipe", recipe())
    net = convnet()
    within = sparse(net) if options.get("within") else None

    def decide(model: nn.Module, ratio: float, before: Masks) -> Masks:
        return scopes.spend(magnitude(model, []), ratio, scope=scope, within=before)

    expected = slow.rounds(
        copy.deepcopy(net),
        decide,
        OBJECTIVE,
        phase,
        batches(),
        ratios=case["ratios"],
        within=within,
    )
    found = in_rounds(net, decide, phase, ratios=case["ratios"], within=within)
    assert not list(slow.different(found, expected))
    assert len(found.kept) == len(case["ratios"])


def in_rounds(
    net: nn.Module, decide: Any, phase: Recipe, *, ratios: list[float], within: Masks | None
) -> slow.Ended:
    # the last round is made after the phase
    task = Task(0.95, partial(scopes.spend), names(net), 7, (*ratios, 0.95), within)
    process = Rounds(net, task, decide=decide, passes=phase.epochs // len(ratios))
    module = PrunerTraining(net, OBJECTIVE, phase, attack=None, seed=7, process=process)
    fit(module, phase.epochs)
    state, masks = module.net.export()
    return slow.Ended(masks, state, {}, [int(n) for n in process.kept[:-1]])
