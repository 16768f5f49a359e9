"""HYDRA's search and pruning in rounds give, bit for bit, what they gave before they were processes."""

import copy
from typing import Any

import pytest
import slow_pruning as slow
import torch
from processes import OBJECTIVE, batches, convnet, fit, module_of, recipe, task
from torch import nn

from advprune.masks import Masks, prunable
from advprune.modules.recipe import Optimizer, Recipe, Schedule
from advprune.pruners import scopes
from advprune.pruners.hydra import Hydra
from advprune.pruners.layouts.ranked import global_
from advprune.pruners.learned_scores import initial_scores
from advprune.pruners.magnitude import magnitude
from advprune.pruners.rounds import Rounds


def sparse(net: nn.Module) -> Masks:
    """Take a fifth of the weights away beforehand."""
    masks = global_({n: w.detach().abs() for n, w in prunable(net).items()}, 0.2)
    slow.put(prunable(net), {n: w.detach() * masks[n] for n, w in prunable(net).items()})
    return masks


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
    asked = task(net, ratios[-1], scope=scope, ratios=tuple(ratios), within=within)
    process = Hydra(net, asked, init=init, bn=bn)
    module = module_of(process, net, phase)
    fit(module)
    module.finish()
    state, masks = module.net.export()
    return slow.Ended(masks, state, process.scores(), [])


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
    asked = task(net, 0.95, ratios=(*ratios, 0.95), within=within)
    process = Rounds(net, asked, decide=decide, passes=phase.epochs // len(ratios))
    module = module_of(process, net, phase)
    fit(module)
    state, masks = module.net.export()
    return slow.Ended(masks, state, {}, [int(n) for n in process.kept[:-1]])
