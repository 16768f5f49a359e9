"""Show how far a phase is: a line at the foot of a terminal, or a line now and then in a log.

``job 3 of 12: hydra 0.9, seed 1 · fine-tuning 10/20 · 46 s left · grid 6 min left``
"""

import logging
import sys
from collections.abc import Mapping

import pytorch_lightning as pl
from rich.console import Console, RenderableType
from torch import Tensor

from advprune.attacks.monitor import AttackMonitor
from advprune.distributed import collectives
from advprune.tracking.progress import JobTitle, PhaseProgress, phase_of
from advprune.tracking.terminal_line import Foot, room, with_bar

log = logging.getLogger(__name__)
#: Seconds between two lines in a log about the batches of an evaluation: a log is not flooded.
QUIET = 10.0


def shown_progress(title: JobTitle, stage: str) -> "ShowProgress":
    """Return what shows how far a phase of a job is; of several ranks, rank 0 alone writes.

    Args:
        title: of the job.
        stage: by the name that loggers have for it.
    """
    terminal = sys.stdout.isatty() and collectives.is_rank_zero()
    return ShowProgress(PhaseProgress(title, phase_of(stage)), Console() if terminal else None)


class ShowProgress(pl.Callback, AttackMonitor):
    """Follow a training or an evaluation, and show how far it is; no step waits for it.

    Args:
        phase: that is shown.
        console: of the terminal; None writes to the log.
    """

    def __init__(self, phase: PhaseProgress, console: Console | None = None) -> None:
        self.phase = phase
        self.foot = None if console is None else Foot(self._drawn, console)
        self._waits = True  # for the first batch, which tells where the phase goes on
        self._logged = -QUIET
        self._counts: dict[str, list[int]] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin to draw."""
        self._open(int(trainer.max_epochs or 1))

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: object, index: int
    ) -> None:
        """Start the clock with the first batch; a phase that goes on has done some before."""
        if self._waits:
            self._waits = False
            self.phase.begin(_place(trainer, index))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: object,
        batch: object,
        index: int,
    ) -> None:
        """Count the batch."""
        self.phase.done = _place(trainer, index + 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Count the epoch, and write a line about it."""
        measured = {name: float(value) for name, value in trainer.callback_metrics.items()}
        facts = f"loss {measured.get('loss', float('nan')):.3f}"
        if "val/clean_acc" in measured:
            clean, robust = measured["val/clean_acc"], measured["val/robust_acc"]
            facts += f", validation {100 * clean:.1f} % clean, {100 * robust:.1f} % robust"
        self.phase.facts, self.phase.done = [facts], trainer.current_epoch + 1
        self._log(always=True)

    def on_test_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin to draw an evaluation."""
        self._open(int(trainer.num_test_batches[0]))
        self.phase.begin(0.0)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Tensor | Mapping[str, int] | None,
        batch: object,
        index: int,
        _: int = 0,
    ) -> None:
        """Count a batch of an evaluation; one that an earlier attempt recorded says nothing."""
        if isinstance(outputs, Mapping):
            word, images = ("certified" if "certified" in outputs else "robust"), outputs["images"]
            self.phase.facts = [self._share(word, int(outputs[word]), images)]
        self.phase.done = index + 1
        self._log(always=self.phase.done == self.phase.total)

    def advance_part(self, part: str, share: float) -> None:
        """Show how far a part of an attack is."""
        self.phase.facts = [*self.phase.facts[:1], f"{_shown(part)} {100 * share:.0f} %"]

    def finish_part(self, part: str, right: Tensor) -> None:
        """Show what a part of an attack has left, on a terminal too."""
        after = f"robust after {_shown(part)}:"
        self.phase.facts = [self._share(after, int(right.sum()), len(right))]
        self._log(always=self.phase.total == 1, above=True)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop drawing."""
        self._close()

    def on_test_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop drawing."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Stop drawing, so that the reason stands alone."""
        self._close()

    def _open(self, total: int) -> None:
        self.phase.total = max(total, 1)
        if self.foot is not None:
            self.foot.open()

    def _close(self) -> None:
        if self.foot is not None:
            self.foot.close()

    def _drawn(self, width: int) -> RenderableType:
        """Return the line, without what was measured if the terminal is too narrow for it."""
        line = self.phase.line()
        line = line if len(line) <= room(width) else self.phase.line(facts=False)
        return with_bar(line, self.phase.done / self.phase.total, width)

    def _share(self, word: str, right: int, images: int) -> str:
        """Return the share of all images so far, in words."""
        counts = self._counts.setdefault(word, [0, 0])
        counts[0], counts[1] = counts[0] + right, counts[1] + images
        share = f"{word} {100 * counts[0] / max(counts[1], 1):.1f} %"
        return share if self.phase.total == 1 else f"{share} of {counts[1]} images"

    def _log(self, *, always: bool, above: bool = False) -> None:
        """Write a line into the log, unless there was one just before.

        Args:
            always: also then.
            above: also where a terminal shows the line at its foot.
        """
        now = self.phase.clock()
        if (above or self.foot is None) and (always or now - self._logged >= QUIET):
            self._logged = now
            log.info("%s", self.phase.line())


def _place(trainer: pl.Trainer, batches: int) -> float:
    """Return the epochs done with so many batches of one; its validation is counted as one more."""
    return trainer.current_epoch + batches / (int(trainer.num_training_batches) + 1)


def _shown(part: str) -> str:
    """Return a part's name as papers write it: ``APGD-CE``."""
    return part.upper() if "-" in part else part
