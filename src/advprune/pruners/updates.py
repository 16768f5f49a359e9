"""When a dynamic sparse training updates its masks, and how many weights an update drops."""

import math
from dataclasses import dataclass

from advprune.errors import UserError
from advprune.pruners.process import Moment


@dataclass(frozen=True)
class Updates:
    """Drop a share that falls as a cosine, every few epochs.

    Attributes:
        first: share of the living weights that is dropped at the beginning.
        last: the same at the end of the updates.
        every: epochs between two updates.
        every_late: the same in the second half of training.
        until: share of training after which nothing is dropped any more.
        wait: whether an update due at the end of an epoch waits until the epoch is validated: else
            the network that is validated, and kept if it is the best, has weights that have just
            grown, and have not been trained.
    """

    first: float
    last: float
    every: float
    every_late: float
    until: float
    wait: bool = False

    def share(self, now: Moment) -> float:
        """Return the share of living weights that an update drops."""
        through = min(now.progress / self.until, 1.0) if self.until else 1.0
        return self.last + (self.first - self.last) / 2 * (1 + math.cos(math.pi * through))

    def due(self, now: Moment, latest: int) -> bool:
        """Return whether this step ends with an update, after which an interval is left to train.

        Args:
            now: the step.
            latest: steps that were done when the masks were updated last, or 0.
        """
        interval, done = self._interval(now), now.step + 1
        if self.wait and done % now.steps_of(1) == 0:
            return False
        ends = min(self.until * now.steps, now.steps - interval + self.wait)
        return done - latest >= interval and done <= ends

    def is_last(self, now: Moment) -> bool:
        """Return whether no update comes after one at this step."""
        done = now.step + 1
        later = (Moment(s, now.steps, now.epoch, now.epochs) for s in range(done, now.steps))
        return not any(self.due(moment, done) for moment in later)

    def check(self, epochs: int) -> None:
        """Refuse a phase in which no update is ever due, or none drops a weight.

        Raises:
            UserError: with the longest interval that is possible.
        """
        if not self.until or not (self.first or self.last):
            raise UserError(
                f"pruner.process.first={self.first:g}, last={self.last:g} and until={self.until:g} "
                "drop nothing, so nothing would ever grow: give for example first=0.5 and until=1"
            )
        longest = min(self.until, 0.5) * epochs
        if self.every > longest:
            raise UserError(
                f"pruner.process.every={self.every:g} epochs in a phase of {epochs} that updates "
                f"until {self.until:g} of it: nothing would ever grow; give "
                f"pruner.process.every={math.floor(longest * 100) / 100:g} or less, or more epochs"
            )

    def _interval(self, now: Moment) -> int:
        return now.steps_of(self.every if now.progress < 0.5 else self.every_late)
