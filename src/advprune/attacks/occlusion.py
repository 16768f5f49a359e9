"""Occlusion: a square patch of one value, at a random place or at the worst of K.

As cutout (DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552), but the square lies wholly
inside the image. The paper on pruning and adversarial robustness
(https://arxiv.org/abs/2108.04890) names an occlusion of 16 without saying where or with what.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from advprune.attacks.per_image_rng import integers, places, uniform, worst
from advprune.errors import UserError
from advprune.ranges import Count, Natural, Seed, Share, refuse_outside


def occlusion(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    size: Natural | Literal["half"] = "half",
    worst_of: Count = 1,
    fill: Share = 0.0,
    seed: Seed = 0,
    positions: Tensor | None = None,
) -> Tensor:
    """Cover a square of each image.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); used only if ``worst_of`` > 1.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        size: the square's side in pixels; 0 leaves the image as it is; ``half`` is half the
            image's, such as 16 of 32.
        worst_of: number of draws, of which the most harmful one counts, image by image.
        fill: the square's value in all channels, in [0, 1].
        seed: seed of the draws.
        positions: places of the images in their test set (N,), which decide the draws.

    Returns:
        x_adv (N, C, H, W) in [0, 1].

    Raises:
        UserError: if the square does not fit, or an option is out of range.
    """
    refuse_outside(occlusion, size=size, worst_of=worst_of, fill=fill)
    height, width = x.shape[-2:]
    size = min(height, width) // 2 if size == "half" else size
    if not 0 <= size <= min(height, width):
        raise UserError(
            f"occlusion: size={size} must be from 0 to {min(height, width)} on these images"
        )
    shares = uniform("occlusion", seed, places(positions, len(x)), worst_of, 2).to(x.device)
    tops = integers(shares[..., 0], 0, height - size)
    lefts = integers(shares[..., 1], 0, width - size)
    corners = zip(tops, lefts, strict=True)
    return worst(model, (cover(x, *corner, size=size, fill=fill) for corner in corners), y)


def cover(x: Tensor, top: Tensor, left: Tensor, *, size: int, fill: float) -> Tensor:
    """Cover a square of each image (N, C, H, W) with ``fill``.

    The square has side ``size``, and its corner is at int64 ``top`` (N,), ``left`` (N,).
    """
    rows = torch.arange(x.shape[-2], device=x.device) - top[:, None]
    columns = torch.arange(x.shape[-1], device=x.device) - left[:, None]
    in_rows, in_columns = (rows >= 0) & (rows < size), (columns >= 0) & (columns < size)
    return x.masked_fill(in_rows[:, None, :, None] & in_columns[:, None, None, :], fill)
