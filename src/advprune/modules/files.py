"""Weights on disk: safetensors, whole or not at all."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from safetensors.torch import load_file, save
from torch import Tensor


def replace(path: Path, content: bytes) -> None:
    """Let ``content`` take the place of ``path`` in one step; a full disk or a kill leaves what was there before.

    Raises:
        OSError: with the path, if it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    replace(path, save(weights))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors written by ``save_weights``."""
    return load_file(path)


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
