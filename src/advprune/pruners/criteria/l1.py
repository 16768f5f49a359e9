"""L1 norm of a filter's weights: a sum, not a mean, bias ignored (Li et al. 2017).

https://arxiv.org/abs/1608.08710

A block scores the sum over its convolutions of their filters' mean, as in the code of Jordao and
Pedrini.
"""

from torch import nn

from advprune.masks import Scores
from advprune.pruners.criteria.feature_maps import Batches, Sites, of_weights


def l1(model: nn.Module, batches: Batches, *, sites: Sites) -> Scores:
    """Score filters or blocks; larger = keep.

    Args:
        model: a network.
        batches: not read.
        sites: all filter sites or all block sites of the model.
    """
    return of_weights(model, sites, lambda weight: weight.abs().sum((1, 2, 3)))
