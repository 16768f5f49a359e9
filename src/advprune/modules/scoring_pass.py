"""Pass over the training images for a criterion: of weights, of filters, of blocks."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import nn

from advprune.distributed import collectives
from advprune.distributed.sharding import seed_step
from advprune.frozen import preserve_rng
from advprune.masks import Masks, Scores
from advprune.modules.pruner_training import ScoringBatches
from advprune.modules.shrinking import Shrinking
from advprune.pruners import masking, scoring
from advprune.pruners.scoring import Criterion
from advprune.pruners.spending import Spending

#: (network, ratio, masks so far) -> masks
Decide: TypeAlias = Callable[[nn.Module, float, Masks | None], Masks]


def of_weights(
    criterion: Criterion, net: nn.Module, pruner: Spending, datamodule: Any, *, seed: int
) -> Scores:
    """Score the weights that may be removed; torch's generators are left where that left them.

    Args:
        criterion: ``(model, batches) -> scores``.
        net: on the device that it is scored on.
        pruner: says which weights may be removed.
        datamodule: of the training images.
        seed: of the run.
    """
    seed_step(seed, "criterion", 0)
    return masking.scores_of(criterion, net, ScoringBatches(datamodule, net), pruner)


def deciding(
    criteria: Iterator[Criterion], pruner: Spending, datamodule: Any, *, seed: int
) -> Decide:
    """Return a function that scores a network by the next criterion and spends a ratio on it.

    Args:
        criteria: one a round, ``(model, batches) -> scores``.
        pruner: says how a ratio is spent.
        datamodule: of the training images.
        seed: of the run.
    """

    def decide(model: nn.Module, ratio: float, within: Masks | None) -> Masks:
        batches = ScoringBatches(datamodule, model)
        with preserve_rng():
            seed_step(seed, "criterion", 0)
            return masking.compute_masks(next(criteria), model, batches, pruner, ratio, within)

    return decide


def of_units(
    criterion: Criterion, shrinking: Shrinking, datamodule: Any, device: torch.device
) -> Scores:
    """Score the filters or blocks that are left; the network is back on the processor afterwards.

    Args:
        criterion: ``(model, batches, *, sites) -> scores``.
        shrinking: the network, and what is left of it.
        datamodule: of the training images.
        device: that the network is scored on.
    """
    sites, net = shrinking.sites(), shrinking.net
    if not sites:
        return {}
    images, shapes = ScoringBatches(datamodule, net), shrinking.score_shapes()
    # each rank scores on the same images; what differs by rounding is averaged
    with collectives.without_communication():
        scores = scoring.checked_scores(
            criterion, net.to(device), images, shapes=shapes, sites=sites
        )
    scores = collectives.averaged(scores)
    net.cpu()
    return {name: score.cpu() for name, score in scores.items()}
