"""Weights on disk: safetensors, whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from safetensors.torch import load_file, save_file
from torch import Tensor


def _replace(part: Path, path: Path) -> None:
    """Make ``part`` durable, then let it take the place of ``path`` in one step."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write tensors as safetensors; a full disk or a kill leaves what was there before."""
    part = path.with_name(f".{path.name}.part")
    try:
        save_file(weights, part)
        _replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors written by ``save_weights``."""
    return load_file(path)


class AtomicCheckpoint(TorchCheckpointIO):
    """Lightning's checkpoints, each replacing the last one in a single step; read without unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside ``path`` first."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            torch.save(checkpoint, part)
            _replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Tensors and plain values only, whatever the caller asks."""
        return torch.load(path, map_location="cpu", weights_only=True)
