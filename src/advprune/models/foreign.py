"""Weights from anywhere: read without running anything in the file, loaded strictly, refused in a sentence.

``read`` understands safetensors and torch's files, the usual nesting (``state_dict``) and prefixes (``module.``);
``load`` puts them into a model, all or nothing.
"""

import logging
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from advprune.errors import UserError

NESTS = ("state_dict", "model_state_dict", "model", "net")
DEEPEST = 4
PREFIXES = ("module.", "model.", "net.", "_orig_mod.")

IGNORED = ("sub_block1.",)
"""Parts of published networks (HYDRA's and TRADES' WRN) that never took part in a forward pass."""

OPTIONAL = "num_batches_tracked"
"""BatchNorm's counter, which torch before 0.4.1 did not save and which a fixed momentum never reads."""

# What torch.load raises on bytes that are no checkpoint, found by feeding it truncated and altered files.
UNREADABLE = (
    *(pickle.UnpicklingError, EOFError, struct.error, RuntimeError, OSError, MemoryError),
    *(ValueError, TypeError, LookupError, AttributeError, AssertionError, OverflowError),
)


def read(path: str | Path) -> dict[str, Tensor]:
    """Read a checkpoint's weights; nothing stored in the file is run.

    Args:
        path: a ``.safetensors`` file, or anything ``torch.save`` wrote (``.pt``, ``.pth``, ``.th``, ``.ckpt``, …).

    Returns:
        The weights on the CPU by parameter name, out of their nest (``NESTS``), without the prefixes (``PREFIXES``) all
        names share, and without ``IGNORED`` parts.

    Raises:
        UserError: if there is no such file, it is no checkpoint, would need code to be run, holds things other than
            tensors, or holds HYDRA's scores, which are a mask and not weights.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}: give the path of a .safetensors, .pt, .pth, .th or .ckpt file")
    weights = _stripped(_state(_payload(path), path))
    scores = [name for name in weights if name.endswith(".popup_scores")]
    if scores:
        raise UserError(
            f"{path} holds HYDRA's scores ({_some(scores, 2)}), so its weights are not masked yet: export the dense "
            f"network (weight x mask, HYDRA's --save-dense) and give that file"
        )
    exotic = [name for name, tensor in weights.items() if tensor.is_quantized or tensor.layout != torch.strided]
    if exotic:
        raise UserError(f"{path} holds quantized or sparse tensors ({_some(exotic, 2)}): give the dense float weights")
    ignored = [name for name in weights if name.startswith(IGNORED)]
    if ignored:
        logging.getLogger(__name__).info("%s: ignored %s, which no forward pass uses", path, _some(ignored, 2))
    return {name: tensor for name, tensor in weights.items() if name not in ignored}


def load(model: nn.Module, path: str | Path) -> None:
    """Put a checkpoint's weights into ``model``, strictly; on an error the model is as it was.

    Args:
        model: changed in place; only ``OPTIONAL`` entries may be absent from the file.
        path: what ``read`` reads.

    Raises:
        UserError: as ``read`` does, or if a name is missing or unexpected, a shape differs or a number is not finite.
    """
    weights = read(path)
    own = model.state_dict()
    missing = [name for name in own if name not in weights and not name.endswith(OPTIONAL)]
    unexpected = [name for name in weights if name not in own]
    shapes = {name: (weights[name].shape, own[name].shape) for name in own if name in weights}
    differing = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    if missing or unexpected or differing:
        complaints = [
            f"missing: {_some(missing, 5)}" if missing else "",
            f"unexpected: {_some(unexpected, 5)}" if unexpected else "",
            _shapes(differing),
        ]
        found = "; ".join(filter(None, complaints))
        cure = _cure(model, differing, exact=not missing and not unexpected)
        raise UserError(f"{path} does not fit this {type(model).__name__} ({found}): {cure}")
    broken = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise UserError(
            f"{path} holds numbers that are not finite ({_some(broken, 3)}): its training diverged, or the "
            f"file is damaged; download or train it again"
        )
    model.load_state_dict({name: weights.get(name, tensor) for name, tensor in own.items()})


def _payload(path: Path) -> Any:
    """What the file holds, before anything is known of it."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, *UNREADABLE) as error:
        raise UserError(
            f"{path} could not be read as weights, and nothing in it was run ({_reason(error)}): download it again, "
            f"or, where it can be trusted, convert it in the code that wrote it, with "
            f"safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error


def _state(payload: Any, path: Path) -> dict[str, Tensor]:
    """The innermost mapping from names to tensors."""
    for _ in range(DEEPEST):
        if not isinstance(payload, Mapping):
            break
        if payload and all(isinstance(value, Tensor) for value in payload.values()):
            return {str(name): tensor for name, tensor in payload.items()}
        nests = [nest for nest in NESTS if isinstance(payload.get(nest), Mapping) and payload[nest]]
        if len(nests) != 1:
            names = _some([str(name) for name in payload], 5)
            raise UserError(
                f"{path} holds {names or 'nothing'}, which is no state_dict, and {len(nests)} of {', '.join(NESTS)} "
                f"to look into: save the state_dict alone with safetensors.torch.save_file"
            )
        payload = payload[nests[0]]
    raise UserError(f"{path} holds a {type(payload).__name__} and no state_dict: save model.state_dict()")


def _stripped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the prefixes that all names share; a wrapper of a wrapper has two."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            return _stripped({name.removeprefix(prefix): tensor for name, tensor in weights.items()})
    return weights


def _shapes(differing: dict[str, tuple[torch.Size, torch.Size]]) -> str:
    """Up to three shapes that differ, or nothing."""
    if not differing:
        return ""
    shown = [f"{name} is {tuple(a)} and should be {tuple(b)}" for name, (a, b) in list(differing.items())[:3]]
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    return "shapes: " + ", ".join(shown) + more


def _cure(model: nn.Module, differing: dict[str, tuple[torch.Size, torch.Size]], *, exact: bool) -> str:
    """What to change, told from what differs: the classes, the channels, the image size, or else the architecture."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    cure = "choose the architecture it was trained with; depth and width are options, such as model.depth=32"
    if not exact or not layers:
        return cure
    changed = {name: (a, b) for name, (a, b) in differing.items() if a[1:] != b[1:]}
    theirs, ours = next(iter(differing.values()))
    if not changed and set(differing) <= {f"{layers[-1]}.weight", f"{layers[-1]}.bias"}:
        return f"the file has {theirs[0]} classes, the dataset {ours[0]}; choose the dataset it was trained on"
    if set(differing) == {f"{layers[0]}.weight"} and len(ours) == 4:
        return f"the file is for {theirs[1]} channels, the dataset has {ours[1]}; choose the dataset it was trained on"
    if all(len(a) == len(b) == 2 and a[0] == b[0] for a, b in differing.values()):
        return "the file is for images of another size; choose the dataset it was trained on"
    return cure


def _some(names: list[str], limit: int) -> str:
    """The first names, and how many more."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _reason(error: BaseException) -> str:
    """What torch says is wrong, without its advice to load the file unsafely, which comes first and last."""
    text = " ".join(str(error).split())
    for advice in ("from a trusted source. ", "WeightsUnpickler error: "):
        text = text.rpartition(advice)[2]
    return f"{type(error).__name__}: {text.partition('. ')[0][:120]}"
