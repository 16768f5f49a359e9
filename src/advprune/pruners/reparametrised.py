"""Weights that are computed from two factors which train: a product, or a mix of filters.

Li et al. 2023 (TwinRep), AAAI. Weight decay on the factors of a product acts on it like L1: of all
u v = w the least (u^2 + v^2) / 2 is |w|. So small weights shrink faster, whatever prunes them.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import Scores
from advprune.pruners.process import Group, Process, key
from advprune.pruners.task import Task

Through = Literal["product", "channel"]
Init = Literal["keep", "kaiming"]


def product(factor: Tensor, weight: Tensor) -> Tensor:
    """Return U * V, entry by entry."""
    return factor * weight


def channel(factor: Tensor, weight: Tensor) -> Tensor:
    """Return A V: each filter is a mix of filters, A (O, O)."""
    return (factor @ weight.flatten(1)).view_as(weight)


COMPOSE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"product": product, "channel": channel}


class Reparametrised(Process):
    """Train two factors of each removable weight: the network's own parameter, and one beside it.

    Args:
        net: the network that the phase starts from.
        task: what is asked for.
        through: ``product`` or ``channel``.
        init: ``keep`` leaves the weights what they are: a product's factors are of one size, a
            mix begins as the identity. ``kaiming`` draws both factors anew, as the authors do,
            whose products are so small that a network needs normalisation to train.

    Raises:
        UserError: if ``through`` or ``init`` has no such member, or ``channel`` meets a bias.
    """

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        *,
        through: Through = "product",
        init: Init = "keep",
    ) -> None:
        super().__init__(net, task)
        if through not in COMPOSE:
            raise UserError(f"through={through!r} is not one of {', '.join(COMPOSE)}")
        if init not in ("keep", "kaiming"):
            raise UserError(f"init={init!r} is not one of keep, kaiming")
        if through == "channel" and any(weight.dim() < 2 for weight in self.weights.values()):
            raise UserError("through=channel mixes filters, and a bias has none: biases=null")
        self.through, self.init = through, init
        self._factors = nn.ParameterDict(
            {key(name): nn.Parameter(self._neutral(w)) for name, w in self.weights.items()}
        )

    def factor(self, name: str) -> nn.Parameter:
        """Return U (of the weight's shape) or A (O, O) of one weight."""
        return self._factors[key(name)]

    def composed(self) -> dict[str, Tensor]:
        """Return the weights that the factors make, before masks, without a graph."""
        compose = COMPOSE[self.through]
        return {n: compose(self.factor(n), w).detach() for n, w in self.weights.items()}

    def start_factors(self) -> None:
        """Split the weights into factors, or draw both anew."""
        if self.init == "kaiming":
            generator = self.task.generator("factors", 0)
            for name, weight in self.weights.items():
                weight.copy_(_drawn(weight, generator))
                self.factor(name).copy_(_drawn(self.factor(name), generator))
        elif self.through == "product":
            for name, weight in self.weights.items():
                root = weight.abs().sqrt()
                self.factor(name).copy_(root)
                weight.copy_(weight.sign() * root)

    def groups(self, net: nn.Module) -> list[Group]:
        """Train the second factors beside all of the network."""
        return [*super().groups(net), Group(list(self._factors.values()))]

    def effective(self, name: str, weight: Tensor) -> Tensor:
        """Return the composed weight, masked."""
        return super().effective(name, COMPOSE[self.through](self.factor(name), weight))

    def magnitudes(self) -> Scores:
        """Return |composed weight| of each."""
        return {name: weight.abs() for name, weight in self.composed().items()}

    def final_weights(self) -> dict[str, Tensor]:
        """Return the composed weights."""
        return self.composed()

    def bury(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Set dead entries of both factors of a product to zero; a mix has no entry of its own."""
        if self.through == "channel":
            return
        super().bury(optimizer)
        for name in self.weights:
            self._bury(self.factor(name), ~self.mask(name), optimizer)

    def _neutral(self, weight: Tensor) -> Tensor:
        if self.through == "product":
            return torch.ones_like(weight)
        return torch.eye(len(weight), dtype=weight.dtype, device=weight.device)


def _drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return a factor drawn as torch draws the weights of a new layer."""
    drawn = torch.empty(like.shape, dtype=like.dtype)
    return nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
