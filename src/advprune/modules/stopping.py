"""Stop a training: saved, when a signal asks (``runtime/preemption.py``), or when it diverged."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from advprune.errors import UserError
from advprune.runtime import preemption

#: Steps on an accelerator after which the host waits and looks at the loss.
EVERY = 50
CURE = "lower the learning rate, add training.warmup_epochs=5 or training.clip=1"


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
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: object,
        batch: object,
        index: int,
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


class NonFiniteGuard:
    """Remember, on the loss's own device, the first step whose loss was not finite.

    A step on the host's side is queued while the device still works on those before; to read a loss
    is to wait for it.

    Args:
        every: steps after which to look; None: each on a processor, where there is nothing to wait
            for, else ``EVERY``.
    """

    def __init__(self, every: int | None = None) -> None:
        self._every, self._seen = every, 0
        self._first: Tensor | None = (
            None  # (epoch, step, loss) of the first bad step; epoch 0: none so far
        )

    def watch(self, loss: Tensor, *, epoch: int, step: int) -> None:
        """Note a step's loss, a scalar; ``epoch`` and ``step`` count from 1.

        Raises:
            UserError: naming the first bad step, as soon as it is looked for.
        """
        loss = loss.detach()
        if self._first is None or self._first.device != loss.device:
            self._first = torch.zeros(3, device=loss.device)
        here = torch.stack(
            [torch.full_like(self._first[0], float(n)) for n in (epoch, step)] + [loss.float()]
        )
        new = (self._first[0] == 0) & ~loss.isfinite()
        self._first = torch.where(new, here, self._first)
        self._seen += 1
        every = self._every or (1 if loss.device.type == "cpu" else EVERY)
        if self._seen % every == 0:
            self.check()

    def check(self) -> None:
        """Look for a bad loss, waiting for the device: after an epoch, and before a save.

        Raises:
            UserError: if one of the losses so far was not finite.
        """
        if self._first is None:
            return
        epoch, step, loss = self._first.tolist()
        if epoch:
            raise UserError(f"the loss is {loss} in epoch {epoch:.0f}, step {step:.0f}; {CURE}")


def check_weights(weights: Mapping[str, Tensor], *, epoch: int) -> None:
    """Check that every weight is finite.

    A finite loss may have a gradient that is not, and no later step to show it.

    Raises:
        UserError: naming the first that is not finite.
    """
    values = {name: value for name, value in weights.items() if value.is_floating_point()}
    # one wait for all
    good = torch.stack([value.isfinite().all() for value in values.values()]).tolist()
    for name, fine in zip(values, good, strict=True):
        if not fine:
            raise UserError(f"{name} is not finite after epoch {epoch}; {CURE}")


def interruptible(run: pl.Trainer, call: Any) -> Any:
    """Call; Lightning turns Ctrl-C into ``exit(1)``, which is turned back."""
    try:
        return call()
    except SystemExit:
        if run.interrupted:
            raise KeyboardInterrupt from None
        raise
