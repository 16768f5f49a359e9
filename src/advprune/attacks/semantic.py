"""The semantic negative (Hosseini et al. 2017, https://arxiv.org/abs/1703.06857): bright is dark and dark is bright.

As in the paper; there is nothing to draw, so random and worst case are the same image.
"""

from torch import Tensor, nn


def semantic_negative(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The negative of each image.

    Args:
        model: not asked.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: not looked at.

    Returns:
        1 - x, (N, C, H, W) in [0, 1].
    """
    del model, y
    return 1 - x
