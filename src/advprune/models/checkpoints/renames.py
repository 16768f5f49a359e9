"""Find a network's tensors under other names in a file, where only one choice is possible."""

import re

import torch
from torch import Tensor

from advprune.models.checkpoints.name_lists import some

#: BatchNorm's counter, which torch before 0.4.1 did not save and a fixed momentum never reads.
OPTIONAL = "num_batches_tracked"


def elsewhere(
    missing: list[str],
    rest: list[str],
    network: dict[str, Tensor],
    file: dict[str, Tensor],
    prefix: str,
    notes: list[str],
) -> dict[str, str]:
    """Find missing tensors under another prefix, or under another name in their block."""
    matched: dict[str, str] = {}
    for name in missing:
        fits = [r for r in rest if r.endswith(f".{name}") or r == name]
        if len(fits) == 1 and file[fits[0]].shape == network[name].shape:
            matched[name] = fits[0]
    if matched:
        notes.append(f"read {some([f'{theirs} as {ours}' for ours, theirs in matched.items()], 2)}")
    still = [name for name in missing if name not in matched]
    free = [name for name in rest if name not in matched.values()]
    renamed = _renamed(still, free, network, file, prefix)
    if renamed:
        layers = {t.rpartition(".")[0]: o.rpartition(".")[0] for o, t in renamed.items()}
        pairs = [f"{theirs} as {ours}" for theirs, ours in layers.items()]
        notes.append(f"read the layers {some(pairs, 6)}: the only ones of their shapes there")
    return matched | renamed


def _renamed(
    missing: list[str],
    rest: list[str],
    network: dict[str, Tensor],
    file: dict[str, Tensor],
    prefix: str,
) -> dict[str, str]:
    """Match all layers to others in their blocks, or none if shapes leave more than one choice."""
    ours, theirs = _layers(missing, network, ""), _layers(rest, file, prefix)
    matched: dict[str, str] = {}
    taken: set[str] = set()
    for layer, tensors in ours.items():
        shapes = _shapes(tensors, network)
        alike = [other for other, leaves in ours.items() if _shapes(leaves, network) == shapes]
        fits = [other for other, leaves in theirs.items() if _shapes(leaves, file) == shapes]
        alike, fits = ([n for n in names if _same_place(layer, n)] for names in (alike, fits))
        if len(fits) != 1 or len(alike) != 1 or fits[0] in taken:
            return {}
        taken.add(fits[0])
        matched |= {name: theirs[fits[0]][leaf] for leaf, name in tensors.items()}
        if OPTIONAL in theirs[fits[0]] and f"{layer}.{OPTIONAL}" in network:
            matched[f"{layer}.{OPTIONAL}"] = theirs[fits[0]][OPTIONAL]
    return matched


def _layers(names: list[str], tensors: dict[str, Tensor], prefix: str) -> dict[str, dict[str, str]]:
    """Group names by layer (without the prefix) and by last part."""
    layers: dict[str, dict[str, str]] = {}
    for name in names:
        layer, _, leaf = name.removeprefix(prefix).rpartition(".")
        layers.setdefault(layer, {})[leaf] = name
    return layers


def _shapes(leaves: dict[str, str], tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Return the shapes of a layer's tensors by the last part of their names."""
    return {leaf: tensors[name].shape for leaf, name in leaves.items() if leaf != OPTIONAL}


def _same_place(a: str, b: str) -> bool:
    """Return whether two layers lie in one block, or one in a part of it such as ``head``."""
    short, long = sorted((_block(a), _block(b)), key=len)
    extra = long.removeprefix(f"{short}." if short else "")
    return short == long or (
        (extra != long or not short) and "." not in extra and not extra.isdigit()
    )


def _block(layer: str) -> str:
    return re.sub(r"(\.\d+)+$", "", layer).rpartition(".")[0]
