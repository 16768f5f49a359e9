"""A batch's attack on disk, so that a killed run goes on within it: written whole, every so often."""

import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from advprune.runtime.atomic_write import write_atomically

#: Seconds between two writings; a killed run loses no more.
EVERY = 60.0


class Journal:
    """The tensors that say how far an attack is.

    Args:
        path: of a safetensors file; None keeps nothing.
        device: where its tensors are wanted.
    """

    def __init__(self, path: Path | None, device: torch.device) -> None:
        self.path, self.device, self.written = path, device, time.monotonic()

    def load(self) -> dict[str, Tensor]:
        """What was written; nothing if there is no file."""
        if self.path is None or not self.path.exists():
            return {}
        return {name: tensor.to(self.device) for name, tensor in load_file(self.path).items()}

    def due(self) -> bool:
        """Whether it is time to write again."""
        return self.path is not None and time.monotonic() - self.written >= EVERY

    def save(self, tensors: dict[str, Tensor]) -> None:
        """Write; what was there before stays until this is whole."""
        if self.path is not None:
            # Cloned, for tensors may be the same at first, and safetensors wants each its own.
            write_atomically(
                self.path,
                save({name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}),
            )
            self.written = time.monotonic()

    def clear(self) -> None:
        """The attack is over."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
