"""Prune while training: learn scores on the objective, or tighten masks round by round."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from advprune.distributed import collectives
from advprune.masks import Masks, Scores, prunable
from advprune.modules.training import RobustTraining
from advprune.surgery.subnet import Subnet


def round_of(epoch: int, epochs: int, rounds: int) -> int:
    """Return which of ``rounds`` equal parts of a phase an epoch falls in, from 0."""
    return min(epoch * rounds // max(epochs, 1), rounds - 1)


class MaskSearch(RobustTraining):
    """Train importance scores while the weights stay as they are: HYDRA's pruning phase.

    Sehwag et al. 2020, https://arxiv.org/abs/2002.10509.

    Args:
        net: the dense network.
        scores: initial scores.
        choose: ``(scores, ratio) -> masks``.
        through: ``(weight, scores, mask) -> effective weight``, straight-through.
        ratios: shares removed, one a round; the rounds share the epochs equally.
        bn: what BatchNorm does meanwhile, see ``Subnet``.
    """

    net: Subnet

    def __init__(
        self,
        net: nn.Module,
        *args: Any,
        scores: Scores,
        choose: Callable[[Scores, float], Masks],
        through: Callable[[Tensor, Tensor, Tensor], Tensor],
        ratios: list[float],
        bn: Any = "train",
        **kwargs: Any,
    ) -> None:
        self.ratios, self.ratio = ratios, ratios[0]
        self.choose = choose
        subnet = Subnet(net, scores=scores, choose=self.one_mask, through=through, bn=bn)
        super().__init__(subnet, *args, **kwargs)

    def one_mask(self, scores: Scores) -> Masks:
        """Return the masks of these scores; of ranks' scores, which move together, rank 0's."""
        if collectives.rank() > 0:
            return collectives.broadcast_masks(
                {name: torch.zeros_like(s, dtype=torch.bool) for name, s in scores.items()}
            )
        return collectives.broadcast_masks(self.choose(scores, self.ratio))

    def before_step(self) -> None:
        """Rank the scores once, for all forwards of the step."""
        self.ratio = self.ratios[
            round_of(self.current_epoch, int(self.trainer.max_epochs or 1), len(self.ratios))
        ]
        super().before_step()

    def trained(self) -> list[nn.Parameter]:
        """Return the scores, and what BatchNorm may learn."""
        return list(self.net.trainable())


class PruningRounds(RobustTraining):
    """Prune a little, fine-tune, prune more: each round's masks lie within those before.

    The last entry of ``ratios`` is not reached here: the caller prunes to it afterwards and
    recovers as it likes. ``kept`` counts, for each round that was made, what it left of
    ``removable``.

    Args:
        net: the dense network.
        decide: ``(model, ratio, masks so far) -> masks``.
        ratios: cumulative shares removed, one a round.
        removable: the parameters that may be removed; None: all prunable weights.
        within: masks of what a network that was sparse before has left; None: of all.
    """

    net: Subnet
    rounds_done: Tensor
    kept: Tensor

    def __init__(
        self,
        net: nn.Module,
        *args: Any,
        decide: Callable[..., Masks],
        ratios: list[float],
        removable: dict[str, nn.Parameter] | None = None,
        within: Masks | None = None,
        **kwargs: Any,
    ) -> None:
        parameters = prunable(net) | (removable or {})
        everything = {name: torch.ones_like(p, dtype=torch.bool) for name, p in parameters.items()}
        super().__init__(Subnet(net, within or everything), *args, **kwargs)
        self.decide, self.ratios = decide, ratios
        self.removable = list(removable if removable is not None else parameters)
        self.register_buffer("rounds_done", torch.zeros((), dtype=torch.long))
        self.register_buffer("kept", torch.zeros(len(ratios), dtype=torch.long))

    def before_step(self) -> None:
        """Decide a round's masks at its start, on the network as it is."""
        due = round_of(self.current_epoch, int(self.trainer.max_epochs or 1), len(self.ratios)) + 1
        if int(self.rounds_done) < due:
            if int(self.rounds_done) != due - 1:
                raise RuntimeError(
                    f"round {due} of pruning comes after round {int(self.rounds_done)}: a defect"
                )
            # effective weights without a graph are leaves, which a criterion may differentiate by
            with torch.no_grad():
                self.net.refresh()
            with torch.no_grad(), self.net.pruned() as net:
                masks = self.decide(net, self.ratios[due - 1], self.net.masks)
            self.net.set_masks(masks)
            self.kept[due - 1] = sum(int(masks[name].sum()) for name in self.removable)
            self.rounds_done.fill_(due)
        super().before_step()
