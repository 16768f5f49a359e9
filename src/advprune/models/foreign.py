"""Weights from any file: nothing in it is run, and they are loaded strictly or refused.

``read`` understands safetensors and torch's files and the usual nesting; ``load`` puts them into a
model, all or nothing, and says what it had to understand. docs/add_a_model.md lists what is
understood.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.models.ambiguities import unsettled
from advprune.models.checkpoints.candidates import Declared, candidates, chosen, plain_form
from advprune.models.checkpoints.constants import compare
from advprune.models.checkpoints.layouts.known_layouts import layout_named
from advprune.models.checkpoints.name_lists import some
from advprune.models.checkpoints.refusal import misfit
from advprune.models.checkpoints.renames import OPTIONAL
from advprune.models.checkpoints.tensors import refuse_exotic

log = logging.getLogger(__name__)
#: Prefixes that ``read`` takes off where all names share them, for it has no network to compare
#: with.
PREFIXES = ("model.", "net.")


@dataclass(frozen=True)
class Loaded:
    """What was understood of a file.

    Args:
        notes: what is not plain about it.
        doubts: what speaks against the network that it gives.
    """

    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def read(path: str | Path) -> dict[str, Tensor]:
    """Read a checkpoint's weights; nothing stored in the file is run.

    Args:
        path: a ``.safetensors`` file, or anything ``torch.save`` wrote (``.pt``, ``.pth``, ``.th``,
            ``.ckpt``, …).

    Returns:
        The weights on the CPU by parameter name, out of their nest, without wrappers' segments and
        without the prefixes all names share.

    Raises:
        UserError: if there is no such file, it is no checkpoint, would need code to be run, or
            holds things other than tensors.
    """
    path = Path(path)
    nests = candidates(path)
    most = max(len(nest.weights) for nest in nests)
    large = [nest for nest in nests if 2 * len(nest.weights) >= most]
    try:
        weights = plain_form(large[0], {}, Declared()).weights
    except UserError as error:
        raise UserError(f"{path} {error}") from None
    for prefix in [prefix for prefix in PREFIXES for _ in PREFIXES]:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def load(model: nn.Module, path: str | Path, declared: Declared | None = None) -> Loaded:
    """Put a checkpoint's weights into ``model``, strictly; on an error the model is as it was.

    Args:
        model: changed in place; only BatchNorm's counters may be absent from the file.
        path: what ``read`` reads.
        declared: the layout of a pruned network, and the share that it lacks; None: plain weights.

    Returns:
        What was understood; it is logged, too.

    Raises:
        UserError: as ``read`` does, or if a name is missing or unexpected, a shape differs, a
            number cannot be, or the file is not in the layout.
    """
    path, state, declared = Path(path), model.state_dict(), declared or Declared()
    nest, plain, fit, others = chosen(candidates(path), state, path, declared)
    if not fit.fits:
        raise UserError(
            f"{path} does not fit this {type(model).__name__} {misfit(fit, plain.weights, model)}"
        )
    notes = [f"took the weights under {nest.name}{others}"] if others else []
    notes += plain.notes + fit.notes
    doubts = [*plain.doubts, *unsettled(model)]
    if declared.layout is not None:
        layout = layout_named(declared.layout)
        notes.append(f"read the weights as layout={declared.layout} has them ({layout.owner})")
        doubts += layout.doubts(model)
    constants = compare(fit.constants, model)
    if constants is not None:
        (notes if constants[1] else doubts).append(constants[0])
    weights = _numbers(fit.weights, state, path)
    model.load_state_dict({name: weights.get(name, tensor) for name, tensor in state.items()})
    for note in notes:
        log.info("%s: %s", path, note)
    for doubt in doubts:
        log.warning("%s: %s", path, doubt)
    return Loaded(notes, doubts)


def _numbers(weights: dict[str, Tensor], state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors in the network's types, after checking that they can be a network's.

    Raises:
        UserError: if they are of a kind that loses something, not finite, or variances below zero.
    """
    try:
        refuse_exotic(weights)
    except UserError as error:
        raise UserError(f"{path} {error}") from None
    whole = [
        name
        for name, tensor in weights.items()
        if state[name].is_floating_point() != tensor.is_floating_point()
        and not name.endswith(OPTIONAL)
    ]
    if whole:
        raise UserError(
            f"{path} holds weights of another type than numbers with a fraction ({whole[0]} is "
            f"{str(weights[whole[0]].dtype).removeprefix('torch.')}): they are codes, of a "
            "quantizer perhaps; give the float weights"
        )
    cast = {
        name: tensor.to_dense() if tensor.layout != torch.strided else tensor
        for name, tensor in weights.items()
    }
    cast = {name: tensor.to(state[name].dtype) for name, tensor in cast.items()}
    broken = [name for name, tensor in cast.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise UserError(
            f"{path} holds numbers that are not finite ({some(broken, 3)}): its training diverged, "
            "or the file is damaged; download or train it again"
        )
    negative = [
        name for name, tensor in cast.items() if name.endswith("running_var") and (tensor < 0).any()
    ]
    if negative:
        raise UserError(
            f"{path} holds variances below zero ({some(negative, 3)}), whose square root is not a "
            "number: the file is damaged, or its averages were mixed; download it again, or train "
            "it again"
        )
    return cast
