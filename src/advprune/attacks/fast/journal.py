"""The state of a batch's attack on disk, written once a minute, so that a killed run resumes."""

import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from advprune.runtime.safe_files import write_atomically

#: Seconds between two saves; a killed run loses no more.
EVERY = 60.0
#: To be raised when the parts keep other tensors; a state of another layout begins again.
LAYOUT = 2


class Journal:
    """A file with the tensors that are the state of an attack.

    Args:
        path: path of a safetensors file; None saves nothing.
        device: device to which the tensors are loaded.
    """

    def __init__(self, path: Path | None, device: torch.device) -> None:
        self.path, self.device, self.written = path, device, time.monotonic()

    def load(self) -> dict[str, Tensor]:
        """Return what was saved; nothing if there is no file, or it has another layout."""
        if self.path is None or not self.path.exists():
            return {}
        saved = {name: tensor.to(self.device) for name, tensor in load_file(self.path).items()}
        layout = saved.pop("layout", None)
        return saved if layout is not None and int(layout) == LAYOUT else {}

    def due(self) -> bool:
        """Return whether it is time to save again."""
        return self.path is not None and time.monotonic() - self.written >= EVERY

    def save(self, tensors: dict[str, Tensor]) -> None:
        """Write the tensors; the file of before is replaced once the new one is complete."""
        if self.path is not None:
            tensors = tensors | {"layout": torch.tensor(LAYOUT)}
            # Cloned, for two names may share a tensor at first, which safetensors refuses.
            write_atomically(
                self.path,
                save({name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}),
            )
            self.written = time.monotonic()

    def clear(self) -> None:
        """Remove the file at the end of the attack."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
