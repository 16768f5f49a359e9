"""Semantic negatives (Hosseini et al. 2017, https://arxiv.org/abs/1703.06857): dark for bright.

As in the paper. Nothing is random, so the random and the worst case are the same image.
"""

from torch import Tensor, nn


def semantic_negative(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the negative of each image.

    Args:
        model: not used.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: not used.

    Returns:
        1 - x, (N, C, H, W) in [0, 1].
    """
    del model, y
    return 1 - x
