"""Describe how a method's code saves a pruned network, and read one layer after another."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.ranges import decimal

#: Tensors by name: a file's, a network's, or a layer's by the last part of their names.
State = dict[str, Tensor]


def nothing(model: nn.Module) -> list[str]:
    """Return no doubts."""
    return []


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way of saving a pruned network.

    Args:
        owner: whose it is, as a reader would cite it.
        has: last parts of the names that only such a file has beside its weights; none: the zeros
            are in the weights themselves.
        lacks: last parts of names that such a file does not have.
        numbered: whether it is a list of arrays, and they have no names.
        read: (file, network, share removed) -> the weights of the forward pass by name. ``file``
            is without wrappers' segments; ``network`` is the state dict they are meant for; the
            share is None if the user gave none.
        doubts: what a network cannot compute as the authors' did.
    """

    owner: str
    has: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    read: Callable[[State, State, float | None], State]
    numbered: bool = False
    doubts: Callable[[nn.Module], list[str]] = nothing

    def fits(self, file: State, marks: frozenset[str]) -> bool:
        """Return whether a file is saved in this way.

        Args:
            file: its tensors by name.
            marks: the last parts of names by which any layout is known.
        """
        parts = {name.rpartition(".")[2] for name in file}
        if self.numbered or all(name.isdigit() for name in file):
            return self.numbered and all(name.isdigit() for name in file)
        return self.has <= parts and not parts & (self.lacks if self.has else marks)


def each_layer(
    file: State,
    beside: frozenset[str],
    fold: Callable[[State], State],
    *,
    everywhere: bool = True,
) -> State:
    """Return a file's tensors with what lies beside each weight folded into it.

    Args:
        file: the tensors by name.
        beside: last parts of the names that lie beside a weight, and are left out.
        fold: the tensors of a layer, by the last part -> those that take their place.
        everywhere: whether each convolution and linear layer must have them.

    Raises:
        UserError: naming the layer, if one part is missing or what ``fold`` raises.
    """
    layers: dict[str, State] = {}
    for name, tensor in file.items():
        layer, _, leaf = name.rpartition(".")
        layers.setdefault(layer, {})[leaf] = tensor
    plain: State = {}
    for layer, parts in layers.items():
        kept = {leaf: tensor for leaf, tensor in parts.items() if leaf not in beside}
        if len(kept) < len(parts) or (everywhere and _is_layer(parts)):
            kept |= _folded(layer, parts, beside, fold)
        plain |= {f"{layer}.{leaf}".lstrip("."): tensor for leaf, tensor in kept.items()}
    return plain


def _is_layer(parts: State) -> bool:
    """Return whether these are the tensors of a convolution or a linear layer."""
    return "weight" in parts and parts["weight"].ndim >= 2


def _folded(
    layer: str, parts: State, beside: frozenset[str], fold: Callable[[State], State]
) -> State:
    missing = sorted({*beside, "weight"} - parts.keys())
    if missing:
        raise UserError(
            f"has no {layer}.{missing[0]} beside {', '.join(sorted(parts))}: a part of the file is "
            "missing; save model.state_dict() whole"
        )
    try:
        return fold(parts)
    except UserError as error:
        raise UserError(f"keeps beside {layer}.weight {error}") from None


def spread(values: Tensor, weight: Tensor, called: str) -> Tensor:
    """Return values a weight, filter or kernel as ones that multiply the weight.

    Args:
        values: of the first dimensions of the weight's shape.
        weight: any shape.
        called: what the values are, for the error.

    Raises:
        UserError: if the shapes do not belong together.
    """
    if values.shape != weight.shape[: values.ndim]:
        raise UserError(
            f"{called} of shape {tuple(values.shape)}, and the weight's is {tuple(weight.shape)}: "
            "they are of two networks; save model.state_dict() of one"
        )
    return values.reshape(*values.shape, *[1] * (weight.ndim - values.ndim))


def is_mask(values: Tensor) -> bool:
    """Return whether all values are 0 or 1."""
    return bool(((values == 0) | (values == 1)).all())


def keep_share(ratio: float | None) -> float:
    """Return the share kept, as the authors' options have it: 0.9 for a ratio of 0.1.

    Raises:
        UserError: if no ratio was given.
    """
    if ratio is None:
        raise UserError(
            "scores, and not how many of them count: give ratio=…, the share of weights that was "
            "removed, such as ratio=0.9"
        )
    return float(1 - decimal(ratio))


def finite(values: Tensor) -> Tensor:
    """Return absolute scores.

    Raises:
        UserError: if one is no number.
    """
    if not torch.isfinite(values).all():
        raise UserError("scores that are not finite: its training diverged, or it is damaged")
    return values.abs().float()
