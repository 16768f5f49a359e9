"""Flying Bird: train sparse from the start, drop small weights, regrow others (Chen et al. 2022).

https://arxiv.org/abs/2202.09844. With other growth it is SET (Mocanu et al. 2018,
https://arxiv.org/abs/1707.04780), RigL (Evci et al. 2020, https://arxiv.org/abs/1911.11134) or the
pruning of DNR (Kundu et al. 2021, https://arxiv.org/abs/2011.03083).

What differs from the authors' code: exactly as many weights grow as were dropped, not so many in
expectation; the interval is in epochs; no update comes so late that what grew has less than an
interval to train.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import Masks, Scores, top_k
from advprune.pruners.dense_gradients import DenseGradients
from advprune.pruners.process import Batches, Moment, Process
from advprune.pruners.spread import spread, top_of_all
from advprune.pruners.steering import Steering, back
from advprune.pruners.task import Task
from advprune.pruners.updates import Updates
from advprune.ranges import Positive, Share

Grow = Literal["random", "gradient", "momentum"]
Over = Literal["layer", "network", "momentum"]


class FlyingBird(Process):
    """Every few epochs, drop the smallest weights of each layer and grow as many dead ones.

    The share of the living weights that goes falls from ``first`` to ``last`` as a cosine. New
    weights are zero, and so is their momentum.

    Args:
        net: the network that the phase starts from, usually an untrained one.
        task: what is asked for; its scope says how many weights each layer has.
        grow: ``random``, or those of the largest dense ``gradient`` of the step, or of the largest
            ``momentum`` of dense gradients.
        over: a ``layer`` grows what it dropped; or the whole ``network`` is ranked; or layers grow
            in proportion to the mean ``momentum`` of their living weights.
        first: share that is dropped at the beginning.
        last: share that is dropped at the end of the updates.
        every: epochs between two updates.
        every_late: the same in the second half of training; null: as ``every``.
        until: share of training after which nothing is dropped any more.
        wait: ``validation``: an update due at the end of an epoch comes after it is validated, in
            the next epoch's first step; null: before.
        init: the first masks are ``random``, or the largest weights by ``magnitude``.
        steer: what changes the total meanwhile (Flying Bird+); null: it stays.
    """

    latest: Tensor
    made: Tensor
    asked: Tensor

    masks_by_scope = False

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        *,
        grow: Grow = "random",
        over: Over = "layer",
        first: Share = 0.5,
        last: Share = 0.005,
        every: Positive = 2.56,
        every_late: Positive | None = None,
        until: Share = 1.0,
        wait: Literal["validation"] | None = None,
        init: Literal["random", "magnitude"] = "random",
        steer: Steering | None = None,
    ) -> None:
        super().__init__(net, task)
        self.grow, self.over, self.init = grow, over, init
        self.updates = Updates(first, last, every, every_late or every, until, wait == "validation")
        self.gradients = DenseGradients(self.weights, momentum="momentum" in (grow, over))
        self.steer, self.measures_training = steer, steer is not None
        self.register_buffer("asked", torch.zeros(len(self.weights), dtype=torch.long))
        self.register_buffer("latest", torch.zeros((), dtype=torch.long))
        self.register_buffer("made", torch.zeros((), dtype=torch.long))

    def check(self, epochs: int, optimizer: torch.optim.Optimizer) -> None:
        """Refuse a phase in which nothing would ever grow, and groups that would grow elsewhere."""
        self.updates.check(epochs)
        if self.task.group is not None and self.over != "layer":
            raise UserError(
                f"pruner.process.over={self.over} is not looked at: with pruner.scope=nm each "
                "group of weights drops and grows by itself; give pruner.process.over=layer"
            )

    def start(self, net: nn.Module, batches: Batches) -> None:
        """Choose the first masks; other weights become zero."""
        sizes = self.magnitudes() if self.init == "magnitude" else self._random("start", 0)
        self.set_masks(self.task.masks(sizes))
        self.zero_dead()
        self.asked.copy_(torch.tensor(self._living()))

    def before_step(self, now: Moment) -> None:
        """Watch dense gradients in the steps that need them."""
        self.gradients.begin(watch=self.grow == "gradient" and self._due(now))

    def effective(self, name: str, weight: Tensor) -> Tensor:
        """Return the masked weight; its gradient is that of dead weights too."""
        return self.gradients.watch(name, super().effective(name, weight))

    def after_backward(self, now: Moment) -> None:
        """Add dense gradients to their momentum."""
        self.gradients.end()

    def after_step(self, now: Moment, optimizer: torch.optim.Optimizer) -> None:
        """Drop and grow, if an interval is over."""
        if self._due(now):
            self.set_masks(self._updated(now))
            self.zero_dead(optimizer)
            self.latest.fill_(now.step + 1)
            self.made += 1

    def result(self) -> dict[str, Any]:
        """Return how often weights were dropped and grown."""
        return {"rounds": [self.task.ratio], "updates": int(self.made)}

    def after_epoch(self, now: Moment, measured: Mapping[str, float]) -> None:
        """Note what steers the total."""
        if self.steer is not None:
            self.steer.note(measured)

    def _due(self, now: Moment) -> bool:
        return self.updates.due(now, int(self.latest))

    def _updated(self, now: Moment) -> Masks:
        """Return the masks after an update."""
        living = self._living()
        drop, grow = self._plan(now, living)
        kept = self._kept([n - d for n, d in zip(living, drop, strict=True)])
        chances = self._chances(now)
        if self.task.group is not None:  # each group drops and grows by itself
            return self.task.masks({n: torch.where(kept[n], torch.inf, chances[n]) for n in kept})
        free = {
            name: torch.where(kept[name], -torch.inf, chance)
            for name, chance in self.task.alive(chances).items()
        }
        counts = self._over_layers(grow, free)
        return {n: kept[n] | top_k(free[n], c) for n, c in zip(free, counts, strict=True)}

    def _plan(self, now: Moment, living: list[int]) -> tuple[list[int], list[int]]:
        """Return how many weights each layer drops and grows."""
        share, asked = self.updates.share(now), self.asked.tolist()
        if self.steer is None or now.progress < self.steer.after:
            drop = [math.ceil(share * count) for count in living]
            return drop, drop
        if self.updates.is_last(now):
            return back(living, share, asked)
        size = sum(weight.numel() for weight in self.weights.values())
        return self.steer.plan(living, share, asked, self.steer.tolerance * size)

    def _kept(self, counts: list[int]) -> Masks:
        """Return what an update does not drop: the largest living weights."""
        sizes = {
            name: torch.where(self.mask(name), size, -torch.inf)
            for name, size in self.magnitudes().items()
        }
        if self.over == "network":
            for size in sizes.values():  # no layer loses its last weight
                size.view(-1)[size.argmax()] = torch.inf
            return top_of_all(sizes, sum(counts))
        return {n: top_k(sizes[n], c) for n, c in zip(sizes, counts, strict=True)}

    def _over_layers(self, counts: list[int], free: Scores) -> list[int]:
        """Return how many of the weights that grow, grow in each layer."""
        if self.over == "layer":
            return counts
        if self.over == "network":
            return [int(mask.sum()) for mask in top_of_all(free, sum(counts)).values()]
        sizes = torch.stack([self.gradients.sum(n)[self.mask(n)].abs().mean() for n in free])
        shares = (
            sizes.double() / sizes.sum() if sizes.sum() > 0 else torch.ones_like(sizes) / len(sizes)
        )
        most = [int((score != -torch.inf).sum()) for score in free.values()]
        return spread((sum(counts) * shares).tolist(), sum(counts), [0] * len(most), most)

    def _chances(self, now: Moment) -> Scores:
        """Return what dead weights are ranked by, at least 0."""
        if self.grow == "random":
            return self._random("grow", now.step)
        if self.grow == "gradient":
            return {name: self.gradients.latest[name].abs() for name in self.weights}
        return {name: self.gradients.sum(name).abs() for name in self.weights}

    def _random(self, purpose: str, index: int) -> Scores:
        generator = self.task.generator(purpose, index)
        return {
            name: torch.rand(weight.shape, generator=generator).to(weight.device)
            for name, weight in self.weights.items()
        }

    def _living(self) -> list[int]:
        return [int(self.mask(name).sum()) for name in self.weights]
