"""Random pruning, the baseline every criterion must beat: uniform scores, exact counts."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from advprune.masks import Scores, prunable
from advprune.pruners.eligible import Eligible
from advprune.ranges import Seed


def random(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    seed: Seed,
    eligible: Eligible = prunable,
) -> Scores:
    """Score each eligible parameter by a number drawn uniformly from [0, 1).

    Args:
        model: a network; not changed.
        batches: not read; see ``magnitude``.
        seed: fixes the scores, on every device; the global generator is not used.
        eligible: model -> the parameters scored.

    Returns:
        One tensor per eligible parameter, of its shape and on its device. The model is not touched.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(weight.shape, generator=generator).to(weight.device)
        for name, weight in eligible(model).items()
    }
