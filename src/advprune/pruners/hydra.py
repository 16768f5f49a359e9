"""HYDRA: masks by importance scores trained on the robust loss (Sehwag et al. 2020).

https://arxiv.org/abs/2002.10509

What differs from the authors' code: one mask per optimizer step instead of a sort of every layer in
every forward; exact counts with stable ties instead of truncated floats; any scope instead of the
same share in each layer.
"""

from typing import Any

from torch import nn

from advprune.masks import Masks, Scores, prunable
from advprune.pruners import learned_scores, scopes
from advprune.pruners.learned_scores import Init, LearnedScores, straight_through
from advprune.pruners.process import Batches, Moment
from advprune.pruners.task import round_of

__all__ = ["Hydra", "Init", "initial_scores", "masks_of", "straight_through"]


class Hydra(LearnedScores):
    """Train scores on the objective; the largest |s| are kept, as many as the scope says.

    Several ratios share the epochs equally; then the scores go on from round to round.
    """

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


def initial_scores(model: nn.Module, *, init: Init, seed: int) -> Scores:
    """Return the scores the search starts from; see ``learned_scores.initial_scores``."""
    return learned_scores.initial_scores(prunable(model), init=init, seed=seed)


def masks_of(
    scores: Scores,
    ratio: float,
    scope: scopes.Scope,
    within: Masks | None = None,
    *,
    n: int | None = None,
    m: int | None = None,
) -> Masks:
    """Return the masks of scores: the largest |s| stay, as many as ``scope`` keeps at ``ratio``."""
    sizes = {name: s.detach().abs() for name, s in scores.items()}
    return scopes.spend(sizes, ratio, scope=scope, within=within, n=n, m=m)
