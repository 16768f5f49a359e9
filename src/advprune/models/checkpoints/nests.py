"""Find the weights in a checkpoint, beside the optimizer, the epoch and the options."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from advprune.models.checkpoints.inert_objects import tensor

#: The usual names of the nest, the first preferred; "" is the file itself.
NESTS = (
    *(
        "",
        "state_dict",
        "model_state_dict",
        "model_state",
        "model",
        "net",
        "network",
        "params",
        "weights",
        "module",
    ),
    *(
        "classifier",
        "best",
        "best_state_dict",
        "best_model",
        "last",
        "ema",
        "model_ema",
        "ema_state_dict",
    ),
    *("state_dict_ema", "swa", "swa_state_dict"),
)
DEEPEST = 4
#: Nests that never hold a network's weights.
ELSEWHERE = (
    "optim",
    "sched",
    "scaler",
    "amp",
    "rng",
    "callback",
    "loops",
    "hyper",
    "args",
    "config",
    "mask",
)
LONGEST = 20


@dataclass(frozen=True)
class Nest:
    """One mapping from names to tensors in the file.

    Args:
        name: where it lies, such as ``model.state_dict``; "" for the file itself.
        weights: what is in it.
        masks: what lies beside it under the name of masks.
    """

    name: str
    weights: dict[str, Tensor]
    masks: dict[str, Tensor]

    @property
    def rank(self) -> tuple[int, ...]:
        """Return a sort key: the smaller, the more usual the name."""
        parts = self.name.split(".")
        return max(NESTS.index(part) if part in NESTS else len(NESTS) for part in parts), len(parts)

    @property
    def known(self) -> bool:
        """Return whether all parts of its name are usual ones."""
        return self.rank[0] < len(NESTS)


def nests(payload: object) -> list[Nest]:
    """Return all mappings from names to tensors, the most usual name first."""
    return sorted(_walk(payload, "", {}, 0, set()), key=lambda nest: nest.rank)


def _walk(
    value: object, name: str, masks: dict[str, Tensor], depth: int, visited: set[int]
) -> Iterator[Nest]:
    if depth > DEEPEST or id(value) in visited:
        return
    visited.add(id(value))
    if isinstance(value, list | tuple):
        whole = dict(enumerate(value))
        if len(_tensors(whole)) == len(value) > 1:
            yield Nest(name, _tensors(whole), masks)
        value = dict(enumerate(value[:LONGEST]))
        weights: dict[str, Tensor] = {}
    else:
        weights = _tensors(value)
    if not isinstance(value, Mapping):
        return
    masks = masks | _masks(value)
    if any(
        array.ndim > 0 and (_numbers(array) or len(weights) == len(value))
        for array in weights.values()
    ):
        yield Nest(name, weights, masks)
    for key, inner in value.items():
        if not any(word in str(key).lower() for word in ELSEWHERE):
            yield from _walk(inner, f"{name}.{key}".removeprefix("."), masks, depth + 1, visited)


def _masks(value: Mapping[object, object]) -> dict[str, Tensor]:
    """Return the tensors under each name of masks, and under one such name within."""
    masks: dict[str, Tensor] = {}
    for key, inner in value.items():
        if "mask" in str(key):
            masks |= _tensors(inner) | (_masks(inner) if isinstance(inner, Mapping) else {})
    return masks


def _numbers(array: Tensor) -> bool:
    return array.is_floating_point() or array.is_complex()


def _tensors(value: object) -> dict[str, Tensor]:
    """Return the tensors and numpy arrays directly in a mapping."""
    if not isinstance(value, Mapping):
        return {}
    arrays = {
        str(key): inner if isinstance(inner, Tensor) else tensor(inner)
        for key, inner in value.items()
    }
    return {key: array for key, array in arrays.items() if array is not None}
