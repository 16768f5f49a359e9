"""Magnitude pruning (Han et al. 2015, https://arxiv.org/abs/1506.02626): the weights nearest zero go first.

On a robustly trained network, fine-tuned with the robust loss, it is the baseline HYDRA calls LWM.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from advprune.masks import Scores, prunable


def magnitude(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Scores:
    """Score each prunable weight by |w|.

    Args:
        batches: not read; every criterion takes it, so that data-driven ones swap in without a special case.
    Returns:
        One tensor >= 0 per prunable weight, of its shape. The model is not touched.
    """
    return {name: weight.detach().abs() for name, weight in prunable(model).items()}
