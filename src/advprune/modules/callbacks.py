"""Watch a training run: keep its best weights, and print plain lines without a terminal."""

import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from advprune.modules.weights_io import save_weights
from advprune.surgery.subnet import Subnet

log = logging.getLogger(__name__)


def plain_weights(net: Any) -> dict[str, Tensor]:
    """Return the network's weights under its own names, with zeros where it is pruned."""
    weights = net.export()[0] if isinstance(net, Subnet) else net.state_dict()
    return {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}


class KeepBest(pl.Callback):
    """Write the weights of the epoch that was best on the validation images; of equals, the later.

    A network that is not as sparse yet as was asked for is never the best.

    Args:
        path: of the ``.safetensors`` file.
        metric: ``clean_acc`` or ``robust_acc``.
    """

    def __init__(self, path: Path, metric: str) -> None:
        self.path, self.metric = path, metric
        self.best: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Compare, and keep the better.

        Listed before weight averaging, so that it sees the average that was validated.
        """
        self.last = {"epoch": trainer.current_epoch + 1, **module.validated()}
        if not module.may_be_best():
            return
        if not self.best or self.last[self.metric] >= self.best[self.metric]:
            self.best = self.last
            if trainer.is_global_zero:
                save_weights(self.path, plain_weights(module.net))

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
            save_weights(self.path, plain_weights(module.net))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the weights themselves, not their average."""
        if trainer.current_epoch + 1 == self.epoch and trainer.is_global_zero:
            save_weights(self.path, plain_weights(module.net))


class PlainProgress(pl.Callback):
    """Print one line an epoch with the rate and the time left; a terminal gets Lightning's bars."""

    def __init__(self, title: str) -> None:
        self.title, self.begun, self.first = title, 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock; a resumed run counts from where it goes on."""
        self.begun, self.first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Print the epoch."""
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        each = (time.monotonic() - self.begun) / max(epoch - self.first, 1)
        measured = {k: float(v) for k, v in trainer.callback_metrics.items()}
        shown = f"loss {measured.get('loss', float('nan')):.3f}"
        if "val/clean_acc" in measured:
            clean, robust = measured["val/clean_acc"], measured["val/robust_acc"]
            shown += f", val clean {clean:.1%} robust {robust:.1%}"
        log.info(
            "%s: epoch %d/%d, %s, %.1f s an epoch, %.0f s left",
            self.title,
            epoch,
            last,
            shown,
            each,
            each * (last - epoch),
        )

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int, _: int = 0
    ) -> None:
        """Print a batch of an evaluation."""
        total = trainer.num_test_batches[0]
        log.info("%s: batch %d/%s attacked", self.title, index + 1, total)
