"""What a pruner that trains is asked for: the ratio, how it is spent, and on what."""

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from advprune.masks import Masks, Scores


class Spend(Protocol):
    """Spend a ratio by the pruner's scope: exact counts, ties broken stably."""

    def __call__(self, scores: Scores, ratio: float, *, within: Masks | None = None) -> Masks:
        """Return the masks that remove ``ratio``, within the masks of what is left, if given."""


@dataclass(frozen=True)
class Task:
    """Say what a process is asked for.

    Attributes:
        ratio: share of the removable weights to be gone in the end, in [0, 1).
        spend: the pruner's scope.
        names: the parameters that may be removed, in the network's order.
        seed: of the run.
        ratios: cumulative ratios, one a round; of one round, ``ratio`` alone.
        within: masks of what a network that was sparse before has left; None: of all.
        group: along the input channels, so many weights compete with each other alone; None: all
            weights of a layer, or of the network.
        through: how two factors compose a weight while it trains; None: weights train as they are.
    """

    ratio: float
    spend: Spend
    names: tuple[str, ...]
    seed: int = 0
    ratios: tuple[float, ...] = ()
    within: Masks | None = None
    group: int | None = None
    through: Literal["product", "channel"] | None = None

    def alive(self, scores: Scores) -> Scores:
        """Return the scores, -inf where the network was sparse before: nothing comes back there."""
        if self.within is None:
            return scores
        return {
            name: score.masked_fill(~self.within[name].to(score.device), -torch.inf)
            for name, score in scores.items()
        }

    def masks(self, scores: Scores, ratio: float | None = None) -> Masks:
        """Return the masks of these scores at ``ratio``, or at that of the end."""
        within = self.within
        if within is not None:
            within = {name: within[name].to(score.device) for name, score in scores.items()}
        return self.spend(scores, self.ratio if ratio is None else ratio, within=within)

    def kept(self, shapes: dict[str, torch.Size]) -> int:
        """Return how many weights stay in the end."""
        masks = self.masks({name: torch.zeros(shape) for name, shape in shapes.items()})
        return sum(int(mask.sum()) for mask in masks.values())

    def generator(self, purpose: str, index: int) -> torch.Generator:
        """Return a generator on the processor whose draws depend on the seed and these alone."""
        text = f"{self.seed}/{purpose}/{index}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def round_of(epoch: int, epochs: int, rounds: int) -> int:
    """Return which of ``rounds`` equal parts of a phase an epoch falls in, from 0."""
    return min(epoch * rounds // max(epochs, 1), rounds - 1)
