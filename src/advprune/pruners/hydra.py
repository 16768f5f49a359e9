"""HYDRA: masks by importance scores trained on the robust loss (Sehwag et al. 2020).

https://arxiv.org/abs/2002.10509

What differs from the authors' code: one mask per optimizer step instead of a sort of every layer in
every forward; exact counts with stable ties instead of truncated floats; any scope instead of the
same share in each layer.
"""

from typing import Any

from torch import nn

from advprune.pruners.learned_scores import BatchNorm, Init, LearnedScores
from advprune.pruners.process import Batches, Moment
from advprune.pruners.task import Task, round_of


class Hydra(LearnedScores):
    """Train scores on the objective; the largest |s| are kept, as many as the scope says.

    Several ratios share the epochs equally, and the scores go on from round to round.

    Args:
        net: the dense network.
        task: what is asked for.
        init: what the scores start from: ``scaled`` is the authors', see ``initial_scores``.
        bn: normalisation meanwhile: ``train`` is the authors', see ``LearnedScores``.
    """

    takes_rounds = True

    def __init__(
        self, net: nn.Module, task: Task, *, init: Init = "scaled", bn: BatchNorm = "train"
    ) -> None:
        super().__init__(net, task, init=init, bn=bn)

    def start(self, net: nn.Module, batches: Batches) -> None:
        """Choose the masks of the initial scores."""
        self._keep(self.task.ratios[0])

    def choose(self, now: Moment) -> None:
        """Rank the scores anew, at the ratio of the round."""
        self._keep(self.task.ratios[round_of(now.epoch, now.epochs, len(self.task.ratios))])

    def finish(self, net: nn.Module) -> None:
        """Choose the masks of the final scores."""
        self._keep(self.task.ratio)

    def result(self) -> dict[str, Any]:
        """Return the ratio of each round."""
        return {"rounds": list(self.task.ratios)}

    def _keep(self, ratio: float) -> None:
        self.set_masks(self.task.masks(self.importance(), ratio))
