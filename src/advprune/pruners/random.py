"""Random pruning, the baseline every criterion must beat: uniform scores; the scope makes the counts exact."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from advprune.masks import Scores, prunable


def random(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, seed: int) -> Scores:
    """Score each prunable weight by a number drawn uniformly from [0, 1).

    Args:
        batches: not read; see ``magnitude``.
        seed: fixes the scores, on every device; the global generator is not used.
    Returns:
        One tensor per prunable weight, of its shape and on its device. The model is not touched.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(weight.shape, generator=generator).to(weight.device)
        for name, weight in prunable(model).items()
    }
