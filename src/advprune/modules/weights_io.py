"""Read and write weights, masks and checkpoints: safetensors, whole or not at all."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from advprune.errors import UserError
from advprune.masks import Masks
from advprune.runtime.safe_files import write_atomically


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    write_atomically(path, save(weights))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors written by ``save_weights``."""
    return load_file(path)


#: What torch.load raises on bytes that are no checkpoint; the disk's own errors are not of it.
BROKEN = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
)
#: What every checkpoint of Lightning's has, of what a resumed run needs.
NEEDED = {
    "state_dict",
    "optimizer_states",
    "lr_schedulers",
    "loops",
    "callbacks",
    "epoch",
    "global_step",
}


def broken_checkpoint(path: Path) -> str | None:
    """Return why training cannot go on from this file; None if it can."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    missing = NEEDED - content.keys() if isinstance(content, dict) else NEEDED
    return f"it has no {sorted(missing)[0]}" if missing else None


class AtomicCheckpoint(TorchCheckpointIO):
    """Replace Lightning's checkpoint in a single step; read it without unpickling code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Serialise first, so that only writing can fail, and says why."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load tensors and plain values only, whatever the caller asks for."""
        return torch.load(path, map_location="cpu", weights_only=True)


def save_masks(masks: Masks, path: Path) -> None:
    """Write masks as a safetensors file of bool tensors, from any device."""
    write_atomically(path, save({name: mask.cpu().contiguous() for name, mask in masks.items()}))


def load_masks(path: Path) -> Masks:
    """Read masks onto the CPU.

    Raises:
        UserError: if the file is missing, truncated, not safetensors, or holds anything but bool
            tensors.
    """
    try:
        masks = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} cannot be read as masks ({error}); give a complete masks.safetensors"
        ) from error
    for name, mask in masks.items():
        if mask.dtype != torch.bool:
            raise UserError(
                f"{path} holds {name} as {mask.dtype}; masks are torch.bool: is this a file of "
                "weights?"
            )
    return masks
