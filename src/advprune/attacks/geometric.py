"""Translation and rotation, random or the worst of K draws.

From Engstrom et al. 2019, https://arxiv.org/abs/1712.02779. Differs from the paper in drawing each
transformation alone, in whole pixels for the translation, and with random numbers that belong to
the image: the worst of K contains the one that ``worst_of=1`` would take.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from advprune.attacks.per_image_rng import integers, places, uniform, worst
from advprune.errors import UserError
from advprune.ranges import Count, Seed, Share, refuse_outside


def translation(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    pixels: Annotated[int, Ge(0), Le(4095)],
    worst_of: Count = 1,
    fill: Share = 0.0,
    seed: Seed = 0,
    positions: Tensor | None = None,
) -> Tensor:
    """Shift each image by whole pixels, uniform in [-pixels, pixels] down and to the right.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); used only if ``worst_of`` > 1.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        pixels: the largest shift, below the image's side; 0 leaves the image as it is.
        worst_of: number of draws, of which the most harmful one counts, image by image.
        fill: value of the pixels that move in, in [0, 1].
        seed: seed of the draws.
        positions: places of the images in their test set (N,), which decide the draws.

    Returns:
        x_adv (N, C, H, W) in [0, 1].

    Raises:
        UserError: if nothing of the image would be left, or an option is out of range.
    """
    refuse_outside(translation, pixels=pixels, worst_of=worst_of, fill=fill)
    if not 0 <= pixels < min(x.shape[-2:]):
        raise UserError(
            f"translation: pixels={pixels} must be from 0 to {min(x.shape[-2:]) - 1} "
            "on these images"
        )
    shares = uniform("translation", seed, places(positions, len(x)), worst_of, 2)
    shifts = integers(shares, -pixels, pixels).to(x.device)
    return worst(model, (translate(x, shift, fill=fill) for shift in shifts), y)


def translate(x: Tensor, shifts: Tensor, *, fill: float) -> Tensor:
    """Shift images (N, C, H, W) by int64 ``shifts`` (N, 2) in pixels: down, and to the right."""
    most = int(shifts.abs().max()) if len(shifts) else 0
    padded = F.pad(x, [most] * 4, value=fill)
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device) + most - shifts[:, :1]
    columns = torch.arange(width, device=x.device) + most - shifts[:, 1:]
    image = torch.arange(len(x), device=x.device)[:, None, None]
    return (
        padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]]
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def rotation(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    degrees: Annotated[float, Ge(0), Le(180)],
    worst_of: Count = 1,
    fill: Share = 0.0,
    seed: Seed = 0,
    positions: Tensor | None = None,
) -> Tensor:
    """Turn each image about its centre by an angle uniform in [-degrees, degrees].

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); used only if ``worst_of`` > 1.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        degrees: the largest angle, in [0, 180]; 0 leaves the image as it is.
        worst_of: number of draws, of which the most harmful one counts, image by image.
        fill: value of the pixels from outside the image, in [0, 1].
        seed: seed of the draws.
        positions: places of the images in their test set (N,), which decide the draws.

    Returns:
        x_adv (N, C, H, W) in [0, 1], sampled bilinearly.

    Raises:
        UserError: if an option is out of range.
    """
    refuse_outside(rotation, degrees=degrees, worst_of=worst_of, fill=fill)
    shares = uniform("rotation", seed, places(positions, len(x)), worst_of, 1)[..., 0]
    angles = ((2 * shares - 1) * degrees).to(x.device, x.dtype)
    return worst(model, (rotate(x, angle, fill=fill) for angle in angles), y)


def rotate(x: Tensor, degrees: Tensor, *, fill: float) -> Tensor:
    """Turn images (N, C, H, W) counter-clockwise by (N,) degrees, sampled bilinearly."""
    height, width = x.shape[-2:]
    cos, sin = torch.cos(degrees * (math.pi / 180)), torch.sin(degrees * (math.pi / 180))
    none = torch.zeros_like(cos)
    back = torch.stack(
        [cos, -sin * height / width, none, sin * width / height, cos, none], dim=1
    ).view(-1, 2, 3)
    grid = F.affine_grid(back, list(x.shape), align_corners=False)
    turned = (F.grid_sample(x - fill, grid, align_corners=False) + fill).clamp(0, 1)
    return torch.where((degrees == 0).view(-1, 1, 1, 1), x, turned)
