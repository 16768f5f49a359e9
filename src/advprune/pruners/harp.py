"""HARP: learn how much each layer keeps, beside which weights (Zhao and Wressnegger 2023).

https://arxiv.org/abs/2412.14714. Single weights only.

What differs from the authors' code: the counts are rounded, and after the search one shift of all
rates makes the total exact; their rates decay as weights do, which pulls each to one half and
fights the budget, ours do not unless ``rate_decay`` says so; where more than a tenth of the weights
stays, the rates start from that share and not from a tenth; one ranking a step and not one a
forward.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import keep_count, top_k
from advprune.pruners.growing_penalty import GrowingPenalty, with_rate
from advprune.pruners.learned_scores import BatchNorm, Init, LearnedScores
from advprune.pruners.process import Batches, Group, Moment
from advprune.pruners.spread import spread
from advprune.pruners.task import Task
from advprune.ranges import Share, ShareBelowOne, Weight

#: Smallest argument of the logit that rates start from, and the largest [C].
INNER = (0.001, 0.99)
#: Share of the weights that layers keep at first, if no more is asked for [C].
DENSITY = 0.1


class Harp(GrowingPenalty, LearnedScores):
    """Train a score per weight and a keep rate per layer, under a growing penalty on the total.

    Layer l keeps k = least + (1 - least) * sigmoid(r), with dL/dk the sum of weight times gradient
    over the layer. The penalty is gamma * (epoch + 1) * max(kept / asked for - 1, 0); its factor
    grows until an epoch ends within the budget, and stays.

    Args:
        net: the dense network.
        task: what is asked for; its scope says what the rates start from.
        gamma: weight of the penalty.
        floor: share of what the network keeps that each layer keeps at least.
        density: of the whole network, that the rates start from; null: the larger of a tenth and
            what stays in the end.
        rate_decay: factor on the recipe's weight decay, for the rates.
        init: what the scores start from, see ``initial_scores``.
        bn: normalisation meanwhile, see ``LearnedScores``.

    Raises:
        UserError: if the floors of the layers are more than the ratio leaves, or the scope ranks
            within groups of weights, whose share is fixed.
    """

    masks_by_scope = False

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        *,
        gamma: Weight = 0.01,
        floor: ShareBelowOne = 0.1,
        density: Share | None = None,
        rate_decay: Weight = 0.0,
        init: Init = "scaled",
        bn: BatchNorm = "train",
    ) -> None:
        super().__init__(net, task, init=init, bn=bn)
        if task.group is not None:
            raise UserError(
                f"HARP learns the share that each layer keeps, and a scope of groups of "
                f"{task.group} weights fixes it: give pruner.scope=layer or erk, or pruner=hydra"
            )
        self.gamma, self.rate_decay = gamma, rate_decay
        self.sizes = [weight.numel() for weight in self.weights.values()]
        self.most = [int(self.mask(name).sum()) for name in self.weights]
        self.total = keep_count(sum(self.sizes), task.ratio)
        self.least = floor * (1 - task.ratio)
        self.floors = floors(self.sizes, floor, task.ratio)
        gone = min(1 - DENSITY, task.ratio) if density is None else 1 - density
        self.rates = nn.Parameter(self._initial_rates(gone))
        self.register_buffer("growth", torch.ones(()))
        self.register_buffer("met", torch.zeros((), dtype=torch.bool))

    def start(self, net: nn.Module, batches: Batches) -> None:
        """Choose the masks of the initial scores and rates."""
        self._keep(self._counts())

    def groups(self, net: nn.Module) -> list[Group]:
        """Train the rates beside the scores."""
        return [*super().groups(net), Group([self.rates], weight_decay=self.rate_decay)]

    def effective(self, name: str, weight: Tensor) -> Tensor:
        """Return the masked weight, with gradients for its scores and its layer's rate."""
        rate = self.keep_rates()[list(self.weights).index(name)]
        return with_rate(weight, self.score(name), self.mask(name), rate)

    def excess(self) -> Tensor:
        """Return by which share more is kept than was asked for, or 0; with a graph."""
        sizes = self.rates.new_tensor(self.sizes)
        kept = (self.keep_rates() * sizes).sum() / sizes.sum()
        return torch.relu(kept / (1 - self.task.ratio) - 1)

    def over_budget(self) -> Tensor:
        """Return the excess of the rates."""
        return self.excess()

    def choose(self, now: Moment) -> None:
        """Rank the scores anew, and keep as many in each layer as its rate says."""
        self._keep(self._counts())

    def finish(self, net: nn.Module) -> None:
        """Shift all rates by one number so that exactly what was asked for stays."""
        low, high = -100.0, 100.0
        for _ in range(200):
            middle = (low + high) / 2
            if sum(self._shares(middle)) > self.total:
                high = middle
            else:
                low = middle
        self._keep(spread(self._shares(low), self.total, self.floors, self.most))

    def result(self) -> dict[str, Any]:
        """Return how much each layer keeps by its rate, and the factor that the penalty got."""
        rates = dict(zip(self.weights, self.keep_rates().tolist(), strict=True))
        return {"rounds": [self.task.ratio], "keep_rates": rates, "growth": float(self.growth)}

    def on_target(self) -> bool:
        """Return whether the layers keep in all what was asked for."""
        return sum(int(self.mask(name).sum()) for name in self.weights) == self.total

    def _initial_rates(self, gone: float) -> Tensor:
        """Return the rates at which each layer keeps what the scope leaves it at this ratio."""
        masks = self.task.masks(self.importance(), gone)
        shares = torch.stack([mask.double().mean() for mask in masks.values()])
        inner = (shares - self.least) / (1 - self.least)
        return torch.logit(inner.clamp(*INNER)).float()

    def _shares(self, shift: float) -> list[float]:
        """Return how many weights each layer keeps with shifted rates, before rounding."""
        rates = torch.sigmoid(self.rates.detach().double() + shift)
        kept = (self.least + (1 - self.least) * rates).tolist()
        return [rate * size for rate, size in zip(kept, self.sizes, strict=True)]

    def _counts(self) -> list[int]:
        shares = zip(self._shares(0.0), self.floors, self.most, strict=True)
        return [min(max(round(share), low), high) for share, low, high in shares]

    def _keep(self, counts: list[int]) -> None:
        named = zip(self.task.alive(self.importance()).items(), counts, strict=True)
        self.set_masks({name: top_k(score, count) for (name, score), count in named})


def floors(sizes: list[int], floor: float, ratio: float) -> list[int]:
    """Return the fewest weights that each layer keeps: a share of what the network keeps, or one.

    Raises:
        UserError: if they are more than ``ratio`` leaves in all; it names the largest that fits.
    """

    def at(kept: float) -> list[int]:
        return [max(math.ceil(floor * kept * size - 1e-9), 1) for size in sizes]

    total = sum(sizes)
    least = at(1 - ratio)
    if sum(least) > keep_count(total, ratio):
        fits = next(n for n in range(len(sizes), total + 1) if sum(at(n / total)) <= n)
        raise UserError(
            f"ratio={ratio:g} leaves {keep_count(total, ratio)} weights, fewer than the "
            f"{sum(least)} that the layers keep at least (pruner.process.floor={floor:g}): give "
            f"ratio={math.floor((1 - fits / total) * 1e4) / 1e4:g} or less"
        )
    return least
