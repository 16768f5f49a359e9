"""Magnitude pruning: the weights nearest zero go first (Han et al. 2015).

https://arxiv.org/abs/1506.02626

On a robustly trained network, fine-tuned with the robust loss, it is the baseline HYDRA calls LWM.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from advprune.masks import Scores, prunable
from advprune.pruners.eligible import Eligible


def magnitude(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, eligible: Eligible = prunable
) -> Scores:
    """Score each eligible parameter by |w|.

    Args:
        model: a network; not changed.
        batches: not read; every criterion takes it, so that data-driven ones swap in without a
            special case.
        eligible: model -> the parameters scored.

    Returns:
        One tensor >= 0 per eligible parameter, of its shape. The model is not touched.
    """
    return {name: weight.detach().abs() for name, weight in eligible(model).items()}
