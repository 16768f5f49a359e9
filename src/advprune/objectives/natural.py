"""Natural training: cross-entropy on the clean images, no adversary."""

import torch.nn.functional as F
from torch import Tensor, nn


def natural(model: nn.Module, x: Tensor, y: Tensor, *, progress: float) -> Tensor:
    """Mean cross-entropy of ``model`` on images ``x`` (N, C, H, W) in [0, 1] with labels ``y`` (N,); a scalar.

    ``progress`` is of the signature; nothing here depends on it.
    """
    return F.cross_entropy(model(x), y)
