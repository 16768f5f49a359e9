"""Weights on disk: safetensors, whole or not at all."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from safetensors.torch import load_file, save
from torch import Tensor

from advprune.atomic import replace


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    replace(path, save(weights))


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
NEEDED = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step"}


def broken_checkpoint(path: Path) -> str | None:
    """Say why training cannot go on from this file; None if it can."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    missing = NEEDED - found.keys() if isinstance(found, dict) else NEEDED
    return f"it has no {sorted(missing)[0]}" if missing else None


class AtomicCheckpoint(TorchCheckpointIO):
    """Lightning's checkpoints, each replacing the last one in a single step; read without unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Serialise first, so that only writing can fail, and says why."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        replace(Path(path), content.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Tensors and plain values only, whatever the caller asks."""
        return torch.load(path, map_location="cpu", weights_only=True)
