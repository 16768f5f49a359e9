"""Weights that are computed from two factors which train: a product, or a mix of filters.

Li et al. 2023 (TwinRep), AAAI. Weight decay on the factors of a product acts on it like L1: of all
u v = w the least (u^2 + v^2) / 2 is |w|. So small weights shrink faster, whatever prunes them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import Scores, buffer_name
from advprune.pruners.factors import COMPOSE, Init, neutral, redraw
from advprune.pruners.process import Batches, Group, Process
from advprune.pruners.task import Task


class Reparametrised(Process):
    """Train weights as they are, or through two factors where ``task.through`` says so.

    One factor is the network's own parameter, the other one lies beside it. A pruner that derives
    from this one reads ``values`` or ``composed`` in place of ``weights``.

    Args:
        net: the network that the phase starts from.
        task: what is asked for.
        init: what the factors start from, see ``factors.py``; of ``task.through`` alone.

    Raises:
        UserError: if ``init`` has no such member.
    """

    reparametrises = True

    def __init__(self, net: nn.Module, task: Task, *, init: Init = "keep") -> None:
        super().__init__(net, task)
        if init not in ("keep", "scaled", "kaiming"):
            raise UserError(f"init={init!r} is not one of keep, scaled, kaiming")
        self.init = init
        self._factors = nn.ParameterDict()
        if task.through is not None:
            for name, weight in self.weights.items():
                self._factors[buffer_name(name)] = nn.Parameter(neutral(task.through, weight))

    def factor(self, name: str) -> nn.Parameter:
        """Return U (of the weight's shape) or A (O, O) of one weight."""
        return self._factors[buffer_name(name)]

    def compose(self, name: str, weight: Tensor) -> Tensor:
        """Return what a weight's factors make, before masks; without factors the weight itself."""
        through = self.task.through
        return weight if through is None else COMPOSE[through](self.factor(name), weight)

    def values(self) -> dict[str, Tensor]:
        """Return the weights before masks, with a graph to what trains."""
        return {name: self.compose(name, weight) for name, weight in self.weights.items()}

    def composed(self) -> dict[str, Tensor]:
        """Return the weights before masks, without a graph."""
        return {name: value.detach() for name, value in self.values().items()}

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Let the network hold its composed weights, masked, for code that reads them."""
        if self.task.through is None:
            yield
            return
        own = {name: weight.detach().clone() for name, weight in self.weights.items()}
        with torch.no_grad():
            for name, value in self.composed().items():
                self.weights[name].copy_(value * self.mask(name))
            try:
                yield
            finally:
                for name, weight in self.weights.items():
                    weight.copy_(own[name])

    def start(self, net: nn.Module, batches: Batches) -> None:
        """Make the factors, if weights train through some."""
        self.start_factors()

    def start_factors(self) -> None:
        """Let the weights be one factor, and the other neutral; or draw both anew."""
        through = self.task.through
        if through is None:
            return
        drawn = self.task.generator("factors", 0)
        for name, weight in self.weights.items():
            factor = self.factor(name)
            factor.copy_(neutral(through, weight))
            if self.init != "keep":
                redraw(through, factor, weight, drawn, scaled=self.init == "scaled")

    def groups(self, net: nn.Module) -> list[Group]:
        """Train the second factors beside all of the network."""
        factors = list(self._factors.values())
        return [*super().groups(net), *([Group(factors)] if factors else [])]

    def effective(self, name: str, weight: Tensor) -> Tensor:
        """Return the composed weight, masked."""
        return super().effective(name, self.compose(name, weight))

    def magnitudes(self) -> Scores:
        """Return |composed weight| of each."""
        return {name: weight.abs() for name, weight in self.composed().items()}

    def final_weights(self) -> dict[str, Tensor]:
        """Return the composed weights."""
        return self.composed()

    def zero_dead(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Set dead entries of both factors of a product to zero; a mix has no entry of its own."""
        if self.task.through == "channel":
            return
        super().zero_dead(optimizer)
        if self.task.through == "product":
            for name in self.weights:
                self._zero(self.factor(name), ~self.mask(name), optimizer)
