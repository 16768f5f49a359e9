"""The contract of every criterion: it scores all it has to, finitely, and changes nothing."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import Scores

Criterion = Callable[..., Scores]
STATISTICS = "the statistics"


def moves_statistics(criterion: Criterion) -> Criterion:
    """Declare that a criterion moves BatchNorm's statistics, as its authors' code does."""
    setattr(criterion, "moves_statistics", True)  # noqa: B010 - a function has no such attribute for mypy
    return criterion


def name_of(criterion: Criterion) -> str:
    """Return the name a criterion is known by."""
    inner = criterion.func if isinstance(criterion, partial) else criterion
    return str(getattr(inner, "__name__", type(inner).__name__))


def checked_scores(
    criterion: Criterion,
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    shapes: Mapping[str, torch.Size],
    **arguments: object,
) -> Scores:
    """Call a criterion; check that its scores are complete and finite, and the model unchanged.

    Args:
        criterion: (model, batches, ...) -> scores.
        model: the network to score.
        batches: training batches (x, y).
        shapes: of the scores that are wanted; others are left out.
        **arguments: what the criterion takes besides model and batches.

    Raises:
        UserError: naming the criterion, if a score is missing, misshapen or not finite, or the
            model was changed.
    """
    criterion_name = name_of(criterion)
    before = _state(model)
    scores = criterion(model, batches, **arguments)
    changed = _change(before, _state(model))
    if _may_move_statistics(criterion):
        changed = [name for name in changed if not name.startswith(STATISTICS)]
    if changed:
        raise UserError(
            f"the criterion {criterion_name} changed {changed[0]}; a criterion gives the model "
            "back as it found it"
        )
    for name, shape in shapes.items():
        _check(scores.get(name), name, shape, criterion_name)
    return {name: scores[name] for name in shapes}


def _check(score: Tensor | None, name: str, shape: torch.Size, criterion: str) -> None:
    """Check the score of one weight, which must be there, of its shape, and finite."""
    if score is None:
        raise UserError(
            f"the criterion {criterion} gives {name} no score; it must score all that may be "
            "removed"
        )
    if score.shape != shape:
        raise UserError(
            f"the criterion {criterion} scores {name} in the shape {tuple(score.shape)}; it must "
            f"be {tuple(shape)}"
        )
    if not torch.isfinite(score).all():
        count = int((~torch.isfinite(score)).sum())
        raise UserError(
            f"the criterion {criterion} gives {name} {count} of {score.numel()} scores that are "
            "NaN or infinite and cannot be ranked: the network diverged, or the criterion divides "
            "by zero on it"
        )


def _may_move_statistics(criterion: Criterion) -> bool:
    inner = criterion.func if isinstance(criterion, partial) else criterion
    return bool(getattr(inner, "moves_statistics", False))


def _state(model: nn.Module) -> dict[str, Tensor | bool | None]:
    """Return everything that a criterion must leave unchanged, by its name in a message."""
    state: dict[str, Tensor | bool | None] = {}
    for path, module in model.named_modules():
        state[f"the mode of {path or 'the model'}"] = module.training
        for key, weight in module._parameters.items():
            if weight is not None:
                name = f"{path}.{key}".lstrip(".")
                gradient = weight.grad if weight.is_leaf else None
                state[f"the weights {name}"] = weight.detach().clone()
                state[f"requires_grad of {name}"] = weight.requires_grad
                state[f"the gradient of {name}"] = (
                    None if gradient is None else gradient.detach().clone()
                )
        for key, buffer in module._buffers.items():
            if buffer is not None:
                state[f"{STATISTICS} {path}.{key}"] = buffer.detach().clone()
    return state


def _change(
    before: dict[str, Tensor | bool | None], after: dict[str, Tensor | bool | None]
) -> list[str]:
    """Return the names of what changed."""
    return [name for name in before | after if not _same(before.get(name), after.get(name))]


def _same(before: Tensor | bool | None, after: Tensor | bool | None) -> bool:
    """Return whether two states are equal; in tensors NaN equals NaN."""
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return before is after
    if before.device != after.device or before.shape != after.shape:
        return False
    return torch.equal(before.nan_to_num(), after.nan_to_num())
