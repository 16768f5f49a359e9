"""Declare how one training phase steps and how long, without torch, for the command line."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from annotated_types import Ge, Le, Lt

from advprune.ranges import Count, Positive, Share, ShareBelowOne, Weight


class Optimizer(Enum):
    """Name the optimizers of a recipe."""

    sgd = "sgd"
    adam = "adam"


class Schedule(Enum):
    """Name the shapes of the learning rate over a phase; see ``modules/optim.py``."""

    cosine = "cosine"
    cosine_authors = "cosine_authors"
    cosine_authors_free = "cosine_authors_free"
    step = "step"
    step_half = "step_half"
    one_cycle = "one_cycle"
    constant = "constant"


class Perturbed(Enum):
    """Name what may be perturbed adversarially in a training step."""

    weights = "weights"
    scores = "scores"


@dataclass(frozen=True)
class Perturb:
    """Declare an adversarial perturbation of what trains: AWP of weights, S2AP of scores.

    Attributes:
        what: weights, or the scores that a pruner learns; nothing if null.
        gamma: length of a tensor's perturbation as a share of its norm.
        warmup_epochs: of the phase, before the first that is perturbed.
    """

    what: Perturbed | None = None
    gamma: Share = 0.005
    warmup_epochs: Weight = 10.0


@dataclass(frozen=True)
class Recipe:
    """Declare one phase of training.

    Attributes:
        epochs: passes over the training set; free adversarial training divides them by its replays.
        learning_rate: the peak.
        batch_size: labelled images a step; extra (pseudo-labelled) images come on top.
        weight_decay: L2, on all trained parameters, as the papers do.
        milestones: shares of the phase, rising, after each of which ``schedule=step`` divides the
            rate by ten; null: three quarters and nine tenths.
        warmup_epochs: the rate climbs linearly from 0 for so long, then the schedule takes the
            rest.
        ema: decay of an average of the weights that is then validated and kept; none if null.
        clip: largest gradient norm; none if null.
        perturb: what is perturbed in each step.
    """

    epochs: Annotated[int, Ge(1), Le(100_000)] = 1
    learning_rate: Weight = 0.1
    batch_size: Count = 128
    optimizer: Optimizer = Optimizer.sgd
    momentum: ShareBelowOne = 0.9
    nesterov: bool | None = None
    weight_decay: Weight = 5e-4
    schedule: Schedule = Schedule.cosine
    milestones: list[ShareBelowOne] | None = None
    warmup_epochs: Weight = 0.0
    ema: Annotated[float, Ge(0), Lt(1)] | None = None
    clip: Positive | None = None
    perturb: Perturb = Perturb()
