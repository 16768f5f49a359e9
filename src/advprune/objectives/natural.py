"""Natural training: cross-entropy on the clean images, no adversary."""

import torch.nn.functional as F
from torch import Tensor, nn

from advprune.ranges import ShareBelowOne


def natural(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    progress: float,
    label_smoothing: ShareBelowOne | None = None,
) -> Tensor:
    """Compute the mean cross-entropy on clean images.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); the loss is computed in its present
            mode.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        progress: share of training that is done, in [0, 1); not used.
        label_smoothing: share of the label's probability that is spread over all classes, in
            [0, 1); None for none.

    Returns:
        A scalar.
    """
    return F.cross_entropy(model(x), y, label_smoothing=label_smoothing or 0.0)
