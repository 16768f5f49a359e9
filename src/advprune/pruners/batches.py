"""The batches that a criterion looks at, clean or attacked."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeAlias

from torch import Tensor, nn

from advprune.errors import UserError

Batches: TypeAlias = Iterable[tuple[Tensor, Tensor]]
Attack: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]


def first(batches: Batches, count: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first ``count`` batches, or all if it is None.

    Raises:
        UserError: if that is none.
    """
    empty = True
    for batch in islice(batches, count):
        empty = False
        yield batch
    if empty:
        raise UserError(
            f"pruner.criterion.count={count} leaves no batch to score on; give at least 1, or null"
        )


def attacked(
    model: nn.Module, batches: Batches, attack: Attack | None, count: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first ``count`` batches with their images attacked; clean if ``attack`` is None."""
    for x, y in first(batches, count):
        yield (x if attack is None else attack(model, x, y).detach()), y
