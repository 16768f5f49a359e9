"""Pruning by ADMM: train dense weights with a pull to a sparse copy, then prune (Ye et al. 2019).

R-ADMM, https://arxiv.org/abs/1903.12561: min L(W) with W sparse, split into W, a sparse copy Z and
duals U. Written from a description of the authors' code. Differs from it: exact counts with stable
ties; the duals are constants of the penalty (``attached_duals`` restores their mistake); updates
come every seventh of the phase, so that a short one has as many; the learning rate follows the
recipe, and begins anew at updates with ``restarts`` alone. With a distilling objective it is the
first phase of PwoA (Jian et al. 2022, https://arxiv.org/abs/2210.04311).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import buffer_name
from advprune.pruners.process import Batches, Moment
from advprune.pruners.reparametrised import Reparametrised
from advprune.pruners.task import Task
from advprune.ranges import Count, Positive, Weight

#: Parts of the phase, where no ``every`` is given; each but the last ends in an update.
PARTS = 7


class Admm(Reparametrised):
    """Add rho/2 * sum ||W - Z + U||^2 to the loss; update Z and U every few epochs; prune at last.

    Args:
        net: the network that the phase starts from; all of it trains, dense.
        task: what is asked for; its scope is the projection onto sparse weights.
        rho: weight of the pull, before the first update; 0 prunes by magnitude what was trained.
        growth: factor on rho at each update.
        largest: that rho becomes; None: it has no bound.
        every: epochs between updates; None: a seventh of the phase, rounded up.
        attached_duals: n updates make the pull n + 1 times as strong, as in the authors' code.
        fresh_copies: Z is the projection of W anew at each epoch, as in PwoA's code.
        restarts: from each update on, the learning rate goes through its whole schedule anew, as in
            the authors' code.
    """

    prunes_filters = True
    updates: Tensor

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        *,
        rho: Weight = 1e-3,
        growth: Positive = 1.3,
        largest: Positive | None = None,
        every: Count | None = None,
        attached_duals: bool = False,
        fresh_copies: bool = False,
        restarts: bool | None = None,
    ) -> None:
        super().__init__(net, task)
        self.first_rho, self.growth, self.largest = rho, growth, largest
        self.every, self.attached_duals, self.fresh_copies = every, attached_duals, fresh_copies
        self.restarts = bool(restarts)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self._copies, self._duals = nn.Module(), nn.Module()
        for name, weight in self.weights.items():
            self._copies.register_buffer(buffer_name(name), torch.zeros_like(weight))
            self._duals.register_buffer(buffer_name(name), torch.zeros_like(weight))

    def check(self, epochs: int, optimizer: torch.optim.Optimizer) -> None:
        """Refuse an interval that leaves no update."""
        if self.every is not None and self.every >= epochs:
            raise UserError(
                f"pruner.process.every={self.every} leaves no update in a phase of {epochs} "
                f"epochs: give at most {max(epochs - 1, 1)}, or more search.epochs"
            )

    @property
    def rho(self) -> float:
        """Return the present weight of the pull."""
        rho = self.first_rho * self.growth ** int(self.updates)
        return rho if self.largest is None else min(rho, self.largest)

    def copy_of(self, name: str) -> Tensor:
        """Return Z of one weight."""
        return self._copies.get_buffer(buffer_name(name))

    def dual(self, name: str) -> Tensor:
        """Return U of one weight."""
        return self._duals.get_buffer(buffer_name(name))

    def schedule_step(self, now: Moment) -> int:
        """Return the step of the learning-rate schedule, which an update may begin anew."""
        if not self.restarts or not self.task.ratio:
            return now.step
        interval = self._interval(now)
        return now.stretched(now.epoch - now.epoch % interval, interval)

    def start(self, net: nn.Module, batches: Batches) -> None:
        """Let the copies be the projected weights."""
        super().start(net, batches)
        self._set_copies(self.values())

    def penalty(self, now: Moment) -> Tensor | None:
        """Return the pull of all weights; None where nothing pulls, or nothing is to be removed."""
        if not self.rho or not self.task.ratio:
            return None
        gaps = [
            (w - self.copy_of(n) + self.dual(n)).square().sum() for n, w in self.values().items()
        ]
        pull = torch.stack(gaps).sum() * self.rho / 2
        if self.attached_duals:
            pull = pull + int(self.updates) * (pull - pull.detach())
        return pull

    def after_epoch(self, now: Moment, measured: Mapping[str, float]) -> None:
        """Update copies and duals, if it is time and an epoch is left to train with them."""
        done = now.epoch + 1
        if self.fresh_copies:
            self._set_copies(self.values())
        if done % self._interval(now) == 0 and done < now.epochs:
            self.update()

    def update(self) -> None:
        """Set Z = P(W + U), then U = U + W - Z, and let rho grow."""
        values = self.composed()
        self._set_copies({name: value + self.dual(name) for name, value in values.items()})
        for name, value in values.items():
            self.dual(name).add_(value - self.copy_of(name))
        self.updates += 1

    def finish(self, net: nn.Module) -> None:
        """Keep the largest weights."""
        self.keep_largest()

    def result(self) -> dict[str, Any]:
        """Return how many updates were made and what rho became."""
        return {"rounds": [self.task.ratio], "updates": int(self.updates), "rho": self.rho}

    def _interval(self, now: Moment) -> int:
        return self.every or math.ceil(now.epochs / PARTS)

    def _set_copies(self, values: Mapping[str, Tensor]) -> None:
        masks = self.task.masks({name: value.detach().abs() for name, value in values.items()})
        for name, value in values.items():
            self.copy_of(name).copy_(value.detach() * masks[name])
