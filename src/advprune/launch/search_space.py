"""Read which options a search varies from the words of its command."""

from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from advprune.errors import UserError


def space(overrides: list[Override]) -> dict[str, BaseDistribution]:
    """Return the search space: every option that has more than one value in the command.

    Raises:
        UserError: if none has.
    """
    searched = {
        override.get_key_element(): _distribution(override)
        for override in overrides
        if override.is_sweep_override()
    }
    if not searched:
        raise UserError(
            "hydra/sweeper=optuna has nothing to search: give an option several values, such as "
            "'training.learning_rate=tag(log,interval(0.01,0.3))' or objective=trades,pgd"
        )
    return searched


def _distribution(override: Override) -> BaseDistribution:
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        assert low is not None
        assert high is not None
        kind = (
            IntDistribution if isinstance(low, int) and isinstance(high, int) else FloatDistribution
        )
        return kind(low, high, log="log" in value.tags)  # type: ignore[arg-type]
    words = list(override.sweep_string_iterator())
    if override.is_range_sweep():
        numbers = sorted(float(word) for word in words)
        step = float(value.step or 1)
        if all(number.is_integer() for number in [*numbers, step]):
            return IntDistribution(int(numbers[0]), int(numbers[-1]), step=int(abs(step)))
        return FloatDistribution(numbers[0], numbers[-1], step=abs(step))
    return CategoricalDistribution(words)
