"""Report each epoch's validation accuracy to the search that this job is a trial of."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from advprune.errors import TrialPruned
from advprune.modules.weights_io import KeepBest


class ReportEpochs(pl.Callback):
    """Report what ``KeepBest`` compares; listed after it.

    On several ranks the first one asks, and all give up.

    Args:
        report: ``(accuracy, epoch) -> whether to give up``.
    """

    def __init__(self, report: Callable[[float, int], bool]) -> None:
        self.report = report

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """Report, and give up if the study says so.

        Raises:
            TrialPruned: the epoch's checkpoint is not written then; the one before it is there.
        """
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        (best,) = (callback for callback in callbacks if isinstance(callback, KeepBest))
        epoch, value = trainer.current_epoch + 1, float(best.last[best.metric])
        bad = trainer.is_global_zero and self.report(value, epoch)
        if trainer.strategy.reduce_boolean_decision(bad, all=False):
            raise TrialPruned(
                f"given up after epoch {epoch}, with {value:.4f}: other trials were better by then"
            )
