"""HARP on channels: learn how many filters each layer keeps, and which (Zhao and Wressnegger 2023).

https://arxiv.org/abs/2412.14714, the channel variant. A filter is scored and masked, as theirs is,
as an input channel of the layer that reads it: before a BatchNorm its own weights times their
gradients sum to zero, for its scale means nothing there. What differs from the authors' code:
filters that can really be removed, with all that reads them, so the convolutions that a sum ties
keep their width; the budget is any of parameters, MACs or filters, and after the search it is met
exactly from below; scores start from the channels' L1 norms; rates do not decay unless
``rate_decay`` says so.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import buffer_name, top_k
from advprune.pruners.filter_spend import FilterSpend
from advprune.pruners.growing_penalty import GrowingPenalty, by_channel, with_rate
from advprune.pruners.learned_scores import NORMS
from advprune.pruners.process import Batches, Group, Moment
from advprune.pruners.task import Task
from advprune.ranges import ShareBelowOne, Weight

#: Smallest and largest argument of the logit that rates start from.
INNER = (0.001, 0.99)


class HarpChannels(GrowingPenalty):
    """Train a score per filter and a keep rate per layer, under a growing penalty on the budget.

    A layer keeps k = least + (1 - least) * sigmoid(r) of its filters; dL/dk is the sum of weight
    times gradient over the layers that read them, as is a filter's slope over the weights that read
    its channel. Weights are frozen.

    Args:
        net: the dense network.
        task: what is asked for, of whole filters.
        gamma: weight of the penalty max(cost / budget - 1, 0), times epochs so far.
        floor: share of ``1 - ratio`` that each layer keeps at least.
        rate_decay: factor on the recipe's weight decay, for the rates.

    Raises:
        UserError: if the pruner removes single weights.
    """

    prunes_filters = True

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        *,
        gamma: Weight = 0.01,
        floor: ShareBelowOne = 0.1,
        rate_decay: Weight = 0.0,
    ) -> None:
        super().__init__(net, task)
        if not isinstance(task.spend, FilterSpend):
            raise UserError("harp_filters learns widths of layers: give pruner.unit=filters")
        self.spend, self.gamma, self.rate_decay = task.spend, gamma, rate_decay
        self.sites = list(self.spend.widths)
        self.least = floor * (1 - task.ratio)
        inner = (1 - task.ratio - self.least) / (1 - self.least)
        start = torch.logit(torch.tensor(inner).clamp(*INNER))
        self.rates = nn.Parameter(torch.full((len(self.sites),), float(start)))
        self._scores = nn.ParameterDict(
            {buffer_name(site): nn.Parameter(self._initial_score(site)) for site in self.sites}
        )
        self.register_buffer("growth", torch.ones(()))
        self.register_buffer("met", torch.zeros((), dtype=torch.bool))

    def score(self, site: str) -> nn.Parameter:
        """Return the scores of a site's filters, (F,), signed."""
        return self._scores[buffer_name(site)]

    def check(self, epochs: int, optimizer: torch.optim.Optimizer) -> None:
        """Refuse a ratio that leaves less than the narrowest network costs."""
        if self.excess(self._shares(self._counts(-100.0))) > 0:
            raise UserError(
                f"ratio={self.task.ratio:g} leaves less than the narrowest network costs, which "
                f"keeps {self.least:.2g} of the filters, or one, in each of {len(self.sites)} "
                f"layers: give a ratio of at most {self._largest_ratio():g}, or a lower "
                "pruner.process.floor"
            )

    def start(self, net: nn.Module, batches: Batches) -> None:
        """Choose the first filters."""
        self._keep(self._counts(0.0))

    def groups(self, net: nn.Module) -> list[Group]:
        """Train scores, rates and what normalisation learns."""
        net.requires_grad_(False)
        for module in net.modules():
            if isinstance(module, NORMS):
                module.requires_grad_(True)
        affine = (p for p in net.parameters() if p.requires_grad)
        rates = Group([self.rates], weight_decay=self.rate_decay)
        return [Group([*self._scores.values(), *affine]), rates]

    def effective(self, name: str, weight: Tensor) -> Tensor:
        """Return the weight without the channels that go, and with gradients for all of them.

        A filter that nothing reads computes on, so that its score knows what it would give.
        """
        site = self.spend.readers.get(name)
        if site is None:
            return weight
        mask, rate = self.mask(name).any(0), self.keep_rates()[self.sites.index(site)]
        return with_rate(weight, self.score(site), mask, rate)

    def excess(self, kept: Tensor, ratio: float | None = None) -> Tensor:
        """Return by which share the cost exceeds the budget, or 0, with these shares kept."""
        left = 1 - (self.task.ratio if ratio is None else ratio)
        shares = dict(zip(self.sites, kept, strict=True))
        cost = torch.as_tensor(sum(cost.at(shares) for cost in self.spend.costs))
        whole = sum(cost.pairs + cost.outputs for cost in self.spend.costs)
        return torch.relu(cost / (whole * left) - 1)

    def over_budget(self) -> Tensor:
        """Return the excess of the rates."""
        return self.excess(self.keep_rates())

    def choose(self, now: Moment) -> None:
        """Keep as many filters of each site as its rate says, the best by |score|."""
        self._keep(self._counts(0.0))

    def finish(self, net: nn.Module) -> None:
        """Shift all rates by the largest number that leaves the network within the budget."""
        low, high = -100.0, 100.0
        for _ in range(100):
            middle = (low + high) / 2
            fits = not self.excess(self._shares(self._counts(middle))).any()
            low, high = (middle, high) if fits else (low, middle)
        self._keep(self._counts(low))

    def result(self) -> dict[str, Any]:
        """Return how much each layer keeps by its rate, and the factor that the penalty got."""
        rates = dict(zip(self.sites, self.keep_rates().tolist(), strict=True))
        return {"rounds": [self.task.ratio], "keep_rates": rates, "growth": float(self.growth)}

    def on_target(self) -> bool:
        """Return whether the filters that are kept are within the budget."""
        counts = [int(self.mask(f"{s}.weight").flatten(1).any(1).sum()) for s in self.sites]
        return not self.excess(self._shares(counts)).any()

    def _largest_ratio(self) -> float:
        """Return the largest ratio that this floor reaches, rounded down to three places."""
        floor = self.least / (1 - self.task.ratio)
        widths = self.spend.widths.values()
        for ratio in (n / 1000 for n in range(999, 0, -1)):
            counts = [max(round(floor * (1 - ratio) * width), 1) for width in widths]
            if self.excess(self._shares(counts), ratio) <= 0:
                return ratio
        return 0.0

    def _initial_score(self, site: str) -> Tensor:
        """Return sqrt(6 / fan_in) * norm / largest norm, of the L1 norms of what reads a filter."""
        width = self.spend.widths[site]
        names = [name for name, of in self.spend.readers.items() if of == site]
        read = [self.weights[name].detach() for name in names]
        norms = torch.stack([by_channel(weight.abs(), width) for weight in read]).sum(0)
        return math.sqrt(6 / read[0][0].numel()) * norms / norms.max().clamp_min(1e-12)

    def _counts(self, shift: float) -> list[int]:
        kept = self.least + (1 - self.least) * torch.sigmoid(self.rates.detach().double() + shift)
        widths = self.spend.widths.values()
        return [max(round(k * width), 1) for k, width in zip(kept.tolist(), widths, strict=True)]

    def _shares(self, counts: list[int]) -> Tensor:
        widths = self.spend.widths.values()
        return torch.tensor([n / width for n, width in zip(counts, widths, strict=True)]).double()

    def _keep(self, counts: list[int]) -> None:
        kept = {
            site: top_k(self.score(site).detach().abs(), count).nonzero().flatten().tolist()
            for site, count in zip(self.sites, counts, strict=True)
        }
        self.set_masks(self.spend.masks(kept, {n: w.detach() for n, w in self.weights.items()}))
