"""Save a training's step before it stops; ``runtime/preemption.py`` receives the signals."""

import signal
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from advprune.runtime import preemption


class StopWhenAsked(pl.Callback):
    """Write the checkpoint after the step in which the process was asked to stop, and stop.

    Listed after weight averaging, so that a checkpoint has the step's average. All ranks stop at
    the same step, whichever got the signal. In an evaluation there is nothing to save, and the
    signal itself ends it.

    Args:
        path: of the checkpoint; the one that the end of each epoch writes, too. None for an
            evaluation.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.loader: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the place in the epoch.

        Lightning keeps it too, but restores it only into a loader made after loading, and asking
        for the number of steps, as the learning rate does, makes it before.
        """
        checkpoint["loader"] = trainer.train_dataloader.state_dict()  # type: ignore[union-attr]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the place in the epoch; there is no loader yet."""
        self.loader = checkpoint.get("loader")

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Go to that place in the epoch, and take the signals back.

        Lightning has installed handlers of its own, one of which ends a validation half way.
        """
        if self.loader is not None:
            trainer.train_dataloader.load_state_dict(self.loader)  # type: ignore[union-attr]
        preemption.listen_again()

    def on_test_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take the signals back, as for training."""
        preemption.listen_again()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Save and stop if asked.

        The last step of an epoch is left to the epoch's own checkpoint, which comes after
        validation.
        """
        if index + 1 < trainer.num_training_batches and self._asked(trainer):
            trainer.save_checkpoint(str(self.path))
            self._stop()

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop if asked while validating: the epoch has just been saved."""
        if self._asked(trainer):
            self._stop()

    def _asked(self, trainer: pl.Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(preemption.asked() is not None, all=False)

    def _stop(self) -> None:
        raise preemption.Stopped(preemption.asked() or signal.SIGTERM)  # another rank heard it
