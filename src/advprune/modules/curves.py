"""Record what a training run measures: in its checkpoint, beside its result, and logged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from advprune.masks import Masks, sparsity
from advprune.modules.pruner_training import PrunerTraining
from advprune.runtime.safe_files import write_atomically
from advprune.surgery.subnet import Subnet

#: Points of ``batch_loss`` within an epoch, at most; and batches between two of them, at least.
WITHIN, APART = 20, 10
#: Lightning's names of what was validated, and ours.
MEASURED = {"val/clean_acc": "val_clean_acc", "val/robust_acc": "val_robust_acc"}

Row = dict[str, float]


def turnover(before: Masks, after: Masks) -> float:
    """Return how much the choice of kept weights changed, in [0, 1].

    It is the Jaccard distance: 1 - |kept in both| / |kept in either|.
    """
    both = sum(int((before[name] & after[name]).sum()) for name in after)
    either = sum(int((before[name] | after[name]).sum()) for name in after)
    return 1 - both / either if either else 0.0


class Curves(pl.Callback):
    """Record a row an epoch of what training measures.

    Its columns are ``epoch``, ``step``, ``loss`` (its mean), ``learning_rate``, ``val_clean_acc``,
    ``val_robust_acc``; of a pruned network its counted ``sparsity`` and, where masks move, their
    ``mask_turnover`` since the epoch before. In long epochs rows between have ``batch_loss``, the
    mean since the last of them.

    Rows are part of the checkpoint, so those of a resumed run are the ones of a run left alone.

    Args:
        path: the JSON file they are kept in: rows by phase.
        phase: of the stage's training; its epochs and steps are counted on from those of the phases
            before.
        log_row: called with each row; a resumed run begins with the earlier ones.
    """

    def __init__(self, path: Path, phase: str, log_row: Callable[[Row], None]) -> None:
        self.path, self.phase, self.log_row = path, phase, log_row
        earlier = [row for rows in _before(phase, path).values() for row in rows][-1:]
        self.start: Row = earlier[0] if earlier else {"epoch": 0, "step": 0}
        self.rows: list[Row] = []
        self.masks: Masks = {}
        self._losses: list[Tensor] = []
        self._marked, self._epoch = 0, -1

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log what the checkpoint remembers."""
        for row in self.rows:
            self.log_row(row)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Remember the masks that the first epoch starts from."""
        if not self.masks and isinstance(module, PrunerTraining):
            self.masks = _on_cpu(module.net.masks)

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Forget the last epoch's losses; those of an epoch that goes on are in the checkpoint."""
        if trainer.current_epoch != self._epoch:
            self._losses, self._marked, self._epoch = [], 0, trainer.current_epoch

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Collect the loss, left on its device; in long epochs log it now and then."""
        self._losses.append(outputs["loss"].detach())
        batches = int(trainer.num_training_batches)
        every, done = max(APART, -(-batches // WITHIN)), index + 1
        if done % every == 0 and done < batches and batches >= 2 * APART:
            recent = torch.stack(self._losses[self._marked :]).mean()
            self._marked = done
            self._tell(
                trainer, trainer.current_epoch + done / batches, {"batch_loss": float(recent)}
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Add the epoch's row; the validation images were measured just before."""
        row = {"loss": float(torch.stack(self._losses).mean())} if self._losses else {}
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        measured = trainer.callback_metrics
        row |= {
            short: float(measured[name]) for name, short in MEASURED.items() if name in measured
        }
        if isinstance(module.net, Subnet):
            row |= self._masked(
                _on_cpu(module.net.masks), moving=isinstance(module, PrunerTraining)
            )
        self._tell(trainer, trainer.current_epoch + 1, row)

    def _masked(self, masks: Masks, *, moving: bool) -> Row:
        row = {"sparsity": sparsity(masks).overall}
        if moving:
            row["mask_turnover"] = turnover(self.masks, masks)
            self.masks = masks
        return row

    def _tell(self, trainer: pl.Trainer, epoch: float, row: Row) -> None:
        if trainer.is_global_zero:
            at = {
                "epoch": self.start["epoch"] + epoch,
                "step": self.start["step"] + trainer.global_step,
            }
            self.rows.append(at | row)
            self.log_row(self.rows[-1])

    def save(self) -> None:
        """Write the file, without rows of later phases, which are to come again."""
        write_atomically(
            self.path, json.dumps(_before(self.phase, self.path) | {self.phase: self.rows}).encode()
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must remember; the list is copied, for it grows on."""
        losses = [float(loss) for loss in self._losses]
        within = {"losses": losses, "marked": self._marked, "epoch": self._epoch}
        return {"rows": list(self.rows), "masks": dict(self.masks), "within": within}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what a checkpoint remembers."""
        self.rows, self.masks = list(state["rows"]), dict(state["masks"])
        within = state["within"]
        self._losses = [torch.tensor(loss) for loss in within["losses"]]
        self._marked, self._epoch = within["marked"], within["epoch"]


def _before(phase: str, path: Path) -> dict[str, list[Row]]:
    """Return the rows of the phases before this one; none if something has cut the file."""
    try:
        phases = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        phases = {}
    names = list(phases)
    return {
        name: phases[name] for name in (names[: names.index(phase)] if phase in names else names)
    }


def _on_cpu(masks: Masks) -> Masks:
    return {name: mask.cpu() for name, mask in masks.items()}
