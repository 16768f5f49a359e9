"""Keep weights, masks and checkpoints in files, whole or not at all, and read them.

Callbacks keep a training's best and its early weights. Weights and masks are safetensors.
"""

import io
import logging
import pickle
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import Masks
from advprune.runtime.safe_files import write_atomically
from advprune.surgery.subnet import Subnet

if TYPE_CHECKING:
    from advprune.modules.training import RobustTraining

log = logging.getLogger(__name__)
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


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    write_atomically(path, save(weights))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors written by ``save_weights``."""
    return load_file(path)


def broken_checkpoint(path: Path) -> str | None:
    """Return why training cannot go on from this file; None if it can."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    missing = NEEDED - content.keys() if isinstance(content, dict) else NEEDED
    return f"it has no {sorted(missing)[0]}" if missing else None


def is_whole_checkpoint(last: Path) -> bool:
    """Return whether there is a checkpoint to go on from; a damaged one costs the work in it."""
    if not last.is_file():
        return False
    wrong = broken_checkpoint(last)
    if wrong:
        log.warning(
            "%s is damaged (%s): this phase of training starts again from its beginning",
            last,
            wrong,
        )
    return wrong is None


class AtomicCheckpoint(TorchCheckpointIO):
    """Replace Lightning's checkpoint in a single step; read it without unpickling code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Serialise first, so that only writing can fail, and says why."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = None
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


def plain_weights(net: nn.Module) -> dict[str, Tensor]:
    """Return the network's weights under its own names, with zeros where it is pruned."""
    weights = net.export()[0] if isinstance(net, Subnet) else net.state_dict()
    return {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}


class KeepBest(pl.Callback):
    """Write the weights of the epoch that was best on the validation images; of equals, the later.

    A network that is not as sparse yet as was asked for is never the best.

    Args:
        path: of the ``.safetensors`` file.
        metric: ``clean_acc`` or ``robust_acc``.
        masks: file of the masks of a network whose masks change; None writes none.
    """

    def __init__(self, path: Path, metric: str, *, masks: Path | None = None) -> None:
        self.path, self.metric, self.masks = path, metric, masks
        self.best: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Compare, and keep the better.

        Listed before weight averaging, so that it sees the average that was validated.
        """
        trained = cast("RobustTraining", module)
        self.last = {"epoch": trainer.current_epoch + 1, **trained.validated()}
        if not trained.may_be_best():
            return
        if not self.best or self.last[self.metric] >= self.best[self.metric]:
            self.best = self.last
            if trainer.is_global_zero:
                save_weights(self.path, plain_weights(trained.net))
                if self.masks is not None:
                    assert isinstance(trained.net, Subnet)
                    save_masks(trained.net.masks, self.masks)

    def choice(self, keep: str) -> dict[str, Any]:
        """Return, for the result, which epoch is kept, and what was measured after it.

        Where no epoch was as sparse as asked for, none is the best, and the last is kept.

        Args:
            keep: ``best`` or ``last``.
        """
        kept = keep if self.best else "last"
        measured = {"best": self.best, "last": self.last}
        return {"kept": kept, **measured, "validation": measured[kept]}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must remember."""
        return {"best": self.best, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what a checkpoint remembers."""
        self.best, self.last = state["best"], state["last"]


class KeepEarly(pl.Callback):
    """Write the weights as they are after ``epoch`` epochs: where rewinding goes back to."""

    def __init__(self, path: Path, epoch: int) -> None:
        self.path, self.epoch = path, epoch

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the initial weights, if those are the early ones."""
        if self.epoch == 0 and trainer.global_step == 0 and trainer.is_global_zero:
            save_weights(self.path, plain_weights(cast("RobustTraining", module).net))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the weights themselves, not their average."""
        if trainer.current_epoch + 1 == self.epoch and trainer.is_global_zero:
            save_weights(self.path, plain_weights(cast("RobustTraining", module).net))
