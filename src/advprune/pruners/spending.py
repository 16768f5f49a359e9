"""Declare what a pruner removes, and how a ratio is spent on it: see ``conf/pruner/base.yaml``.

Nothing here imports torch, so that the options of a finished job are read at once.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from advprune.ranges import Width

Schedule = Literal["one_shot", "linear", "exponential", "cubic", "hyperbolic"]


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Hold the options by which weights, filters or blocks are chosen, whatever scores them.

    Attributes:
        scope: the layout; of filters, whether scores are compared within layers or across them.
        n: N of N:M; None of another layout.
        m: M of N:M; None of another layout.
        through: how two factors compose a weight while it trains; None: it trains as it is.
        unit: what is removed; None: single weights.
        budget: what the ratio is a share of, of filters and blocks.
        floor: the fewest filters a layer, or blocks a stage, keeps; None: the default.
        round_to: what the filters of a layer are a multiple of; None: 1.
        schedule: how the ratio is reached.
        rounds: in how many rounds.
        remove: which scores go; None: the smallest.
        select: how weights are selected where counts are not exact; None: they are.
        biases: whether biases may go, too; None is no.
        classifier: whether the last linear layer is pruned; None is yes.
    """

    scope: Literal["layer", "global", "erk", "igq", "lamp", "normed", "columns", "nm"]
    n: Annotated[int, Ge(1), Le(31)] | None = None
    m: Annotated[int, Ge(2), Le(32)] | None = None
    through: Literal["product", "channel"] | None = None
    unit: Literal["filters", "blocks"] | None
    budget: Literal["parameters", "macs", "filters", "blocks"] | None
    floor: Width | None
    round_to: Width | None
    schedule: Schedule
    rounds: Annotated[int, Ge(1), Le(10_000)]
    remove: Literal["smallest", "largest"] | None
    select: Literal["quantile", "bernoulli"] | None
    biases: bool | None
    classifier: bool | None
