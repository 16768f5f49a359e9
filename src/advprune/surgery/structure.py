"""A smaller network as a value: filters kept, blocks gone, tensor shapes; JSON, never pickle."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.runtime.safe_files import write_atomically
from advprune.sites import BlockSite
from advprune.surgery import blocks, filters
from advprune.surgery.channel_groups import Groups
from advprune.surgery.filters import Kept

FILE = "structure.json"


@dataclass(frozen=True)
class Structure:
    """What was removed from a dense network.

    Args:
        filters: those that stay at each site that lost any, as the dense network numbers them.
        blocks: the removed ones.
        shapes: of every tensor in the state dict of what is left.
    """

    filters: Kept
    blocks: list[str]
    shapes: dict[str, list[int]]

    def save(self, path: Path) -> None:
        """Write JSON, in one step."""
        write_atomically(path, json.dumps(asdict(self)))

    def then(self, later: "Structure") -> "Structure":
        """Return this structure and a later one of the network it left, as one."""
        filters = dict(self.filters)
        for site, kept in later.filters.items():
            filters[site] = [self.filters[site][i] for i in kept] if site in self.filters else kept
        return Structure(filters, [*self.blocks, *later.blocks], later.shapes)


def load(path: Path) -> Structure:
    """Read what ``Structure.save`` wrote.

    Raises:
        UserError: if the file is missing, cut short, or holds anything else.
    """
    try:
        return TypeAdapter(Structure).validate_json(path.read_text())
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read as a structure ({reason}); give the one saved with the weights"
        ) from None


def shapes(model: nn.Module) -> dict[str, list[int]]:
    """Return the shape of every tensor of the state dict."""
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def shrink(
    dense: nn.Module,
    structure: Structure,
    *,
    groups: Groups,
    sites: list[BlockSite],
    masked: bool = False,
) -> nn.Module:
    """Cut a dense network down to a structure in place; ``masked`` only zeroes what goes."""
    (filters.silence if masked else filters.remove)(dense, groups, structure.filters)
    return (blocks.silence if masked else blocks.remove)(dense, sites, structure.blocks)


def rebuild(dense: nn.Module, structure: Structure) -> nn.Module:
    """Give a new dense network the shapes of a structure, in place; load its weights next.

    Needs no dependency graph and runs nothing from the file.

    Raises:
        UserError: naming the tensor or block, if the structure is not one of this network.
    """
    for name in structure.blocks:
        if name not in dict(dense.named_modules()):
            raise UserError(
                f"the structure removes {name}, which this {type(dense).__name__} does not have"
            )
        dense.set_submodule(name, nn.Identity())
    state = dense.state_dict()
    strange = sorted(set(state) ^ set(structure.shapes))
    if strange:
        raise UserError(
            f"the structure does not fit this {type(dense).__name__} ({', '.join(strange[:3])}): "
            "choose the model it was made from"
        )
    for name, tensor in state.items():
        wanted = structure.shapes[name]
        if list(tensor.shape) != wanted:
            _resize(dense, name, tensor, wanted)
    return dense


def _resize(model: nn.Module, name: str, tensor: Tensor, shape: list[int]) -> None:
    if len(shape) != tensor.ndim or any(
        not 0 < new <= old for new, old in zip(shape, tensor.shape, strict=True)
    ):
        raise UserError(
            f"the structure has {name} as {tuple(shape)}, and this {type(model).__name__} "
            f"{tuple(tensor.shape)}: choose the model it was made from"
        )
    owner, _, key = name.rpartition(".")
    module = model.get_submodule(owner)
    fresh = torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
    if key in module._parameters:
        module._parameters[key] = nn.Parameter(fresh)
    else:
        module._buffers[key] = fresh
    if key == "weight":
        filters.fit_attributes(module)


def misses_structure(model: nn.Module, weights: dict[str, Tensor]) -> bool:
    """Return whether weights look like this network's after filters or blocks were removed.

    Then names are missing and shapes are smaller, and nothing else.
    """
    state = model.state_dict()
    if not weights.keys() <= state.keys():
        return False
    pairs = [(tensor.shape, state[name].shape) for name, tensor in weights.items()]
    if any(len(a) != len(b) or any(x > y for x, y in zip(a, b, strict=True)) for a, b in pairs):
        return False
    convolutions = [name for name, tensor in state.items() if tensor.ndim == 4]
    return any(
        name not in weights or weights[name].shape[0] < state[name].shape[0]
        for name in convolutions
    )


def cut(net: nn.Module, tensors: dict[str, Tensor], folder: Path) -> bool:
    """Cut ``net`` in place to the structure beside the weights; return whether there is one.

    Raises:
        UserError: if filters or blocks are missing from the weights and no file says which.
    """
    path = folder / FILE
    if path.exists():
        rebuild(net, load(path))
        return True
    of_network = {name: tensor.shape for name, tensor in net.state_dict().items()}
    of_weights = {name: tensor.shape for name, tensor in tensors.items()}
    if of_weights != of_network and misses_structure(net, tensors):
        raise UserError(
            f"the weights in {folder} are of a {type(net).__name__} that lost filters or blocks, "
            f"and {path} is not there: put the structure.json that was saved with them beside them"
        )
    return False
