"""Bayesian connectivity sampling: sparse from the first step to the last (Özdenizci et al. 2021).

Özdenizci and Legenstein, ICML 2021, https://arxiv.org/abs/2106.15995; deep rewiring (Bellec et al.
2018) under robust training. A weight is a fixed sign times a size theta; what falls to zero dies,
and as many are born elsewhere at random. Written from a description of the authors' code. Differs
from it: the decay is the recipe's, coupled; a dead connection has no momentum that could revive it;
the first masks of a network without stages are told by widths; noise, which is nil, is off.
"""

from typing import Any

import torch
from torch import Tensor, nn

from advprune.masks import buffer_name
from advprune.pruners.process import Batches, Moment, Process
from advprune.pruners.task import Task
from advprune.ranges import Share, Weight

#: Size of a connection that is born.
BORN = 1e-12


class Bcs(Process):
    """Train sizes of connections; replace each that dies by one at a random place.

    The network's parameters hold theta, and masks say which are alive. The total stays what was
    asked for, while the layers' counts drift.

    Args:
        net: the network that the phase starts from, of which only the shapes matter.
        task: what is asked for; of its scope only the total counts.
        noise: standard deviation of what is added to living sizes at each step, over the learning
            rate; 1e-6 in the authors' code.
        ends: first density of the first and the last layer.
        stage: first density of the layers as wide as the first.
        rest: first density of all others, as a share of what the network keeps.
    """

    follows_scope = False

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        *,
        noise: Weight = 0.0,
        ends: Share = 0.6,
        stage: Share = 0.2,
        rest: Share = 0.5,
    ) -> None:
        super().__init__(net, task)
        self.noise, self.first = noise, (ends, stage, rest)
        self.total = task.kept({name: weight.shape for name, weight in self.weights.items()})
        self._allowed = {name: self.mask(name).clone() for name in self.weights}
        self._signs = nn.Module()
        for name, weight in self.weights.items():
            self._signs.register_buffer(buffer_name(name), torch.ones_like(weight))

    def sign(self, name: str) -> Tensor:
        """Return the fixed signs of one weight, +1 or -1."""
        return self._signs.get_buffer(buffer_name(name))

    def start(self, net: nn.Module, batches: Batches) -> None:
        """Draw signs, sizes and the first masks."""
        drawn = self.task.generator("start", 0)
        counts = first_counts([w.shape for w in self.weights.values()], self.total, self.first)
        for (name, weight), count in zip(self.weights.items(), counts, strict=True):
            values = torch.empty(weight.shape, dtype=weight.dtype)
            nn.init.normal_(values, std=(2 / weight[0].numel()) ** 0.5, generator=drawn)
            self.sign(name).copy_(torch.where(values < 0, -1.0, 1.0))
            alive = _choose(self._allowed[name], count, drawn)
            weight.copy_(values.abs().to(weight.device) * alive)
        self._see_masks()

    def effective(self, name: str, weight: Tensor) -> Tensor:
        """Return sign * max(theta, 0), whose gradient is zero for the dead."""
        return self.sign(name) * weight.relu()

    def after_step(self, now: Moment, optimizer: torch.optim.Optimizer) -> None:
        """Shake the living, let die what fell to zero, and let others be born in its place."""
        drawn = self.task.generator("rewire", now.step)
        if self.noise:
            self._shake(self.noise * float(optimizer.param_groups[0]["lr"]), drawn)
        self._rewire(drawn)
        self.zero_dead(optimizer)

    def result(self) -> dict[str, Any]:
        """Return the ratio."""
        return {"rounds": [self.task.ratio]}

    def final_weights(self) -> dict[str, Tensor]:
        """Return sign * max(theta, 0)."""
        return {name: self.effective(name, w).detach() for name, w in self.weights.items()}

    def _shake(self, size: float, drawn: torch.Generator) -> None:
        for name, weight in self.weights.items():
            step = torch.randn(weight.shape, generator=drawn, dtype=weight.dtype) * size
            weight.add_(step.to(weight.device) * (self.mask(name) & (weight > 0)))

    def _rewire(self, drawn: torch.Generator) -> None:
        """Fill up to the total: layers in proportion to their sizes, places at random."""
        dead = {n: self._allowed[n] & (w.detach() <= 0) for n, w in self.weights.items()}
        alive = sum(int((w > 0).sum()) for w in self.weights.values())
        room = [int(places.sum()) for places in dead.values()]
        births = draw_layers(
            [w.numel() for w in self.weights.values()], room, self.total - alive, drawn
        )
        for (name, places), count in zip(dead.items(), births, strict=True):
            if count:
                born = _choose(places, count, drawn)
                self.weights[name].masked_fill_(born, BORN)
        self._see_masks()

    def _see_masks(self) -> None:
        self.set_masks({name: weight.detach() > 0 for name, weight in self.weights.items()})


def first_counts(
    shapes: list[torch.Size], total: int, densities: tuple[float, float, float]
) -> list[int]:
    """Return how many connections each layer has at first; fewer than ``total`` in all.

    Args:
        shapes: of the weights, in the network's order.
        total: connections in the end.
        densities: of the ends, of layers as wide as the first, and of the rest as a share of what
            stays; all are lowered in proportion if they are too many.
    """
    sizes = [shape.numel() for shape in shapes]
    ends, stage, rest = densities
    shares = [stage if shape[0] == shapes[0][0] else rest * total / sum(sizes) for shape in shapes]
    shares[0] = shares[-1] = ends
    wanted = sum(share * size for share, size in zip(shares, sizes, strict=True))
    scale = min(total / wanted, 1.0) if wanted else 0.0
    return [int(share * size * scale) for share, size in zip(shares, sizes, strict=True)]


def draw_layers(
    sizes: list[int], room: list[int], missing: int, drawn: torch.Generator
) -> list[int]:
    """Draw how many of ``missing`` births each layer has, in proportion to its size.

    Args:
        sizes: of the layers.
        room: the most that each can have; what is drawn beyond it is drawn again elsewhere.
        missing: births in all; none if negative.
        drawn: the generator.
    """
    births = torch.zeros(len(sizes), dtype=torch.long)
    most = torch.tensor(room)
    while (left := missing - int(births.sum())) > 0 and bool((births < most).any()):
        chances = torch.tensor(sizes, dtype=torch.double) * (births < most)
        layers = torch.multinomial(chances, left, replacement=True, generator=drawn)
        births = torch.minimum(births + torch.bincount(layers, minlength=len(sizes)), most)
    return births.tolist()


def _choose(places: Tensor, count: int, drawn: torch.Generator) -> Tensor:
    """Return a mask of ``count`` of the places, drawn without replacement."""
    at = places.flatten().nonzero().squeeze(1)
    chosen = torch.randperm(len(at), generator=drawn)[:count].to(at.device)
    return torch.zeros_like(places.flatten()).index_fill(0, at[chosen], True).view_as(places)
