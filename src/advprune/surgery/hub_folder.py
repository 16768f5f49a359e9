"""Keep a network in a folder as a hub takes it: safetensors, how to build it, a card; read it back.

``config.json`` names the function that builds the network, and has a SHA-256 of each file that
loading reads. Nothing is unpickled, and only functions of ``advprune.models`` are called.
"""

import hashlib
import json
import pkgutil
from pathlib import Path
from typing import Any

from safetensors.torch import load
from torch import nn

from advprune.errors import UserError
from advprune.runtime.safe_files import read_json, write_atomically
from advprune.surgery import export, structure

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
#: Where the functions that build networks lie; a folder of somebody else's calls no other.
MODELS = "advprune.models."
FORMAT = 1


def write(
    folder: Path, net: nn.Module, *, network: dict[str, Any], shape: tuple[int, ...], card: str
) -> Path:
    """Write a network with its structure and card; ``read`` gives it back.

    Args:
        folder: made if it is missing; a ``structure.json`` that lies in it is the network's.
        net: with zeros where it is pruned.
        network: the call that builds the dense network: ``_target_`` and its arguments.
        shape: (C, H, W) of an image.
        card: the text of ``README.md``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    export.safetensors(net, folder / WEIGHTS)
    files = [name for name in (WEIGHTS, structure.FILE) if (folder / name).exists()]
    config = {
        "library_name": "advprune",
        "format": FORMAT,
        "network": network,
        "image_shape": list(shape),
        "pixels": "[0, 1]; the normalisation is inside the network",
        "sha256": {name: _checksum(folder / name) for name in files},
    }
    write_atomically(folder / CONFIG, json.dumps(config, indent=1) + "\n")
    write_atomically(folder / CARD, card)
    return folder


def read(folder: Path) -> nn.Module:
    """Return the network of a folder, on the CPU and in eval mode.

    Raises:
        UserError: if a file is missing or damaged, or another package builds the network.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} has no {CONFIG}: give a folder that export=hub wrote, or a name of the zoo"
        )
    config = read_json(folder / CONFIG)
    network = dict(config.get("network") or {}) if isinstance(config, dict) else {}
    sums = config.get("sha256") if isinstance(config, dict) else None
    if not network or not isinstance(sums, dict) or WEIGHTS not in sums:
        raise UserError(f"{folder / CONFIG} is not one that export=hub writes: export it again")
    for name, expected in sums.items():
        path = folder / Path(name).name
        if not path.is_file() or _checksum(path) != expected:
            raise UserError(
                f"{path} is {'damaged' if path.is_file() else 'missing'} (its SHA-256 is not that "
                f"of {CONFIG}): get the folder again"
            )
    net = _built(network, folder)
    tensors = load((folder / WEIGHTS).read_bytes())
    structure.cut(net, tensors, folder)
    net.load_state_dict(tensors)
    return net.eval()


def _built(network: dict[str, Any], folder: Path) -> nn.Module:
    """Return the freshly initialised dense network that a call makes."""
    target = str(network.pop("_target_", None))
    if not target.startswith(MODELS):
        raise UserError(
            f"{folder} holds a network of {target}, and only those of {MODELS.rstrip('.')} are "
            f"built from a folder: build yours, and load {WEIGHTS} into it"
        )
    try:
        net: nn.Module = pkgutil.resolve_name(target)(**network)
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(
            f"{folder}'s network cannot be built here ({error}): get the version of advprune that "
            "wrote it, or export it again"
        ) from error
    return net


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
