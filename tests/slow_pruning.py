"""Slow references of a mask search and of pruning in rounds, frozen as they were before processes.

One plain loop each: no Lightning, no shared effective weights, one functional call a forward.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn
from torch.func import functional_call

from advprune.distributed.sharding import seed_step
from advprune.masks import Masks, prunable
from advprune.modules.optim import factor, optimizer
from advprune.modules.recipe import Recipe
from advprune.pruners import scopes

Batches = list[tuple[Tensor, Tensor]]
Objective = Callable[..., Tensor]


class Masked(nn.Module):
    """Compute ``net`` with other weights in the places of its own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.weights = net, dict[str, Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        return functional_call(self.net, self.weights, (x,))


@dataclass
class Ended:
    """What a phase left: masks, the network with zeros where it is pruned, and the rest."""

    masks: Masks
    state: dict[str, Tensor]
    scores: dict[str, Tensor]
    kept: list[int]


def norms(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


def steps(
    model: Masked,
    trained: list[nn.Parameter],
    objective: Objective,
    recipe: Recipe,
    batches: Batches,
    before: Callable[[int], None],
    after: Callable[[], None],
) -> None:
    """Step through all epochs; ``before`` gets the epoch, ``after`` comes with the gradients."""
    total, step = recipe.epochs * len(batches), count()
    stepper = optimizer(recipe, trained)
    rate = factor(recipe, steps_per_epoch=len(batches), epochs=recipe.epochs)
    for epoch in range(recipe.epochs):
        for x, y in batches:
            now = next(step)
            seed_step(7, "train", now)
            before(epoch)
            stepper.param_groups[0]["lr"] = recipe.learning_rate * rate(now)
            stepper.zero_grad()
            objective(model, x, y, progress=now / total).backward()
            after()
            if recipe.clip is not None:
                torch.nn.utils.clip_grad_norm_(trained, recipe.clip)
            stepper.step()


def search(
    net: nn.Module,
    start: dict[str, Tensor],
    objective: Objective,
    recipe: Recipe,
    batches: Batches,
    *,
    scope: scopes.Scope,
    ratios: list[float],
    bn: str,
    within: Masks | None,
) -> Ended:
    """HYDRA: one mask a step by |s|, dL/ds = w * dL/dw_eff * sign(s), weights frozen."""
    model, weights = Masked(net).train(), prunable(net)
    scores = {name: nn.Parameter(value.clone()) for name, value in start.items()}
    net.requires_grad_(False)
    for norm in norms(net):
        norm.requires_grad_(bn == "train")
        norm.train(bn != "freeze_all")
    trained = [*scores.values(), *(p for p in net.parameters() if p.requires_grad)]
    masks: Masks = {}

    def choose(ratio: float) -> None:
        size = {name: s.detach().abs() for name, s in scores.items()}
        masks.update(scopes.spend(size, ratio, scope=scope, within=within))

    def before(epoch: int) -> None:
        choose(ratios[min(epoch * len(ratios) // recipe.epochs, len(ratios) - 1)])
        model.weights = {
            n: (weights[n].detach() * masks[n].float()).requires_grad_() for n in masks
        }

    def after() -> None:
        for name, score in scores.items():
            score.grad = model.weights[name].grad * weights[name].detach() * score.detach().sign()

    steps(model, trained, objective, recipe, batches, before, after)
    choose(ratios[-1])
    return Ended(masks, zeroed(net, masks), {n: s.detach() for n, s in scores.items()}, [])


def rounds(
    net: nn.Module,
    decide: Callable[[nn.Module, float, Masks], Masks],
    objective: Objective,
    recipe: Recipe,
    batches: Batches,
    *,
    ratios: list[float],
    within: Masks | None,
) -> Ended:
    """Prune a little at the start of each equal part of the epochs, fine-tune under fixed masks."""
    model, weights, kept = Masked(net).train(), prunable(net), list[int]()
    masks = within or {n: torch.ones_like(w, dtype=torch.bool) for n, w in weights.items()}
    masks = dict(masks)

    def before(epoch: int) -> None:
        if len(kept) <= min(epoch * len(ratios) // recipe.epochs, len(ratios) - 1):
            own = {name: weight.detach().clone() for name, weight in weights.items()}
            put(weights, {name: value * masks[name].float() for name, value in own.items()})
            with torch.no_grad():
                masks.update(decide(net, ratios[len(kept)], dict(masks)))
            put(weights, own)
            kept.append(sum(int(mask.sum()) for mask in masks.values()))
        model.weights = {
            n: (weights[n].detach() * masks[n].float()).requires_grad_() for n in masks
        }

    def after() -> None:
        for name, weight in weights.items():
            weight.grad = model.weights[name].grad * masks[name].float()

    steps(model, list(net.parameters()), objective, recipe, batches, before, after)
    return Ended(masks, zeroed(net, masks), {}, kept)


@torch.no_grad()
def put(weights: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        weights[name].copy_(value)


def zeroed(net: nn.Module, masks: Masks) -> dict[str, Tensor]:
    """The state of ``net`` as it is exported, statistics of BatchNorm included."""
    state = {name: value.detach().clone() for name, value in net.state_dict().items()}
    return state | {name: state[name].masked_fill(~mask, 0) for name, mask in masks.items()}


def different(one: Ended, other: Ended) -> Iterable[str]:
    """Yield the name of each value that differs in a bit."""
    for part in ("masks", "state", "scores"):
        mine, theirs = getattr(one, part), getattr(other, part)
        assert mine.keys() == theirs.keys(), part
        yield from (f"{part}: {n}" for n in mine if not torch.equal(mine[n], theirs[n]))
    if one.kept != other.kept:
        yield f"kept: {one.kept}, {other.kept}"
