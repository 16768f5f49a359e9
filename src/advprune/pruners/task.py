"""What a pruner is asked for: a ratio, in which rounds it is reached, and how it is spent.

``cumulative`` gives the ratio of each round; the last is exactly the one that was asked for.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from advprune.errors import UserError
from advprune.masks import Masks, Scores, check_ratio
from advprune.pruners.spending import Schedule


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


def one_shot(ratio: float) -> list[float]:
    """Return one round that removes everything at once."""
    return _ending(ratio, [ratio])


def linear(ratio: float, *, rounds: int) -> list[float]:
    """Return rounds that each remove the same share of the original weights."""
    return _ending(ratio, [ratio * i / rounds for i in range(1, rounds + 1)])


def exponential(ratio: float, *, rounds: int) -> list[float]:
    """Return rounds that each remove the same share of the remaining weights.

    As in iterative magnitude pruning.
    """
    return _ending(ratio, [1 - (1 - ratio) ** (i / rounds) for i in range(1, rounds + 1)])


def cubic(ratio: float, *, rounds: int) -> list[float]:
    """Return rounds that remove ratio * (1 - (1 - i/rounds)^3) by round i: fast first, slow last.

    Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878.
    """
    return _ending(ratio, [ratio * (1 - (1 - i / rounds) ** 3) for i in range(1, rounds + 1)])


def hyperbolic(ratio: float, *, rounds: int) -> list[float]:
    """Return rounds that remove ratio * i / (i + 10) by round i, scaled to end at the ratio.

    Li et al. 2020 (boosting tickets), by a description of their code: slower than exponential at
    first.
    """
    end = rounds / (rounds + 10)
    return _ending(ratio, [ratio * i / (i + 10) / end for i in range(1, rounds + 1)])


def cumulative(ratio: float, *, schedule: Schedule, rounds: int, start: float = 0.0) -> list[float]:
    """Return the share removed after each round, by the named schedule.

    Args:
        schedule: name of the schedule.
        ratio: share removed in the end, in [0, 1).
        rounds: 1 of one_shot, at least 2 of the others, which with one round would be one_shot
            under another name.
        start: share that is gone before the first round, at most ``ratio``; the schedule goes on
            from there.

    Returns:
        ``rounds`` ratios that never fall; the last equals ``ratio`` exactly.

    Raises:
        UserError: for an unknown schedule, a ratio outside [0, 1), or a number of rounds it cannot
            have.
    """
    schedules = {
        "linear": linear,
        "exponential": exponential,
        "cubic": cubic,
        "hyperbolic": hyperbolic,
    }
    if schedule != "one_shot" and schedule not in schedules:
        raise UserError(f"schedule={schedule!r} is not one of one_shot, {', '.join(schedules)}")
    if rounds < 1:
        raise UserError(f"rounds={rounds} is not allowed; pruning takes at least 1 round")
    if schedule != "one_shot" and rounds == 1:
        raise UserError(
            f"schedule={schedule} with rounds=1 is one shot: give two rounds or more, such as "
            "pruner.rounds=5, or pruner.schedule=one_shot"
        )
    if schedule != "one_shot":
        left = (1 - ratio) / (1 - start)  # of what is left at the start, what stays in the end
        shares = schedules[schedule](1 - left if start else ratio, rounds=rounds)
        return _ending(ratio, [start + (1 - start) * share for share in shares])
    if rounds != 1:
        raise UserError(
            f"rounds={rounds} does not fit schedule=one_shot, which has 1; write schedule=linear, "
            "or rounds=1"
        )
    return one_shot(ratio)


def _ending(ratio: float, ratios: list[float]) -> list[float]:
    check_ratio(ratio)
    return [min(r, ratio) for r in ratios[:-1]] + [ratio]
