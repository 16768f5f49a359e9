"""The five blurs of CIFAR-10-C, with the published constants.

From Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261. Images are float64
(N, C, H, W) in [0, 1]; severities are 1 to 5.

Gaussian, defocus, glass and zoom blur follow the published code; motion blur re-derives
ImageMagick's, which that code calls. Lengths grow with the image.
"""

import numpy as np

from advprune.attacks.common.pixels import (
    Array,
    Draws,
    clipped_zoom,
    filtered,
    levels,
    per_image,
    scale,
    smooth,
    streaked,
)


def gaussian_blur(x: Array, severity: int, draws: Draws) -> Array:
    """Blur with a Gaussian; nothing is random."""
    del draws
    return smooth(x, (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1] * scale(x))


def defocus_blur(x: Array, severity: int, draws: Draws) -> Array:
    """Blur with a disk softened by a Gaussian; nothing is random.

    Images smaller than CIFAR's get CIFAR's disk, or no pixel would change.
    """
    del draws
    radius, soft = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    return filtered(x, disk(radius * max(1.0, scale(x)), soft))


def disk(radius: float, soft: float) -> Array:
    """Return the kernel of ``defocus_blur``, (K, K), of sum 1.

    Args:
        radius: of the disk of whole pixels.
        soft: standard deviation of the Gaussian, cut to 3 x 3 pixels, or 5 x 5 above radius 8.
    """
    reach, taps = int(radius), (1 if radius <= 8 else 2)
    side = np.arange(-reach - taps, reach + taps + 1)
    kernel = (side[:, None] ** 2 + side**2 <= radius**2).astype(np.float64)
    kernel /= kernel.sum()
    bell = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * soft**2))
    bell /= bell.sum()
    for axis in (0, 1):
        kernel = np.apply_along_axis(
            lambda line: np.convolve(line, bell, mode="same"), axis, kernel
        )
    return kernel


def glass_blur(x: Array, severity: int, draws: Draws) -> Array:
    """Replace pixels by random neighbours between two Gaussian blurs.

    The published loop means to swap two pixels; as they are views of one array, it copies the
    neighbour above or to the left. It goes from the last pixel to the first, so no copy is copied
    again, and one gather does the same.
    """
    sigma, passes = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]
    sigma, reach = sigma * scale(x), max(1, round(scale(x)))
    image, (height, width) = levels(smooth(x, sigma)) / 255.0, x.shape[-2:]
    number = np.arange(len(x))[:, None, None]
    rows, columns = np.arange(reach + 1, height), np.arange(reach + 1, width)
    for _ in range(passes):
        moves = per_image(
            draws,
            lambda g: g.integers(-reach, reach, size=(2, len(rows), len(columns))).astype(float),
        ).astype(int)
        down = np.minimum(rows[:, None] + moves[:, 0], height - 1)
        right = np.minimum(columns + moves[:, 1], width - 1)
        moved = np.moveaxis(image, 1, -1)[number, down, right]
        image = image.copy()
        image[:, :, reach + 1 :, reach + 1 :] = np.moveaxis(moved, -1, 1)
    return smooth(image, sigma)


def motion_blur(x: Array, severity: int, draws: Draws) -> Array:
    """Blur along a streak, within 45 degrees of the horizontal."""
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1]
    angles = per_image(draws, lambda g: g.uniform(-45, 45))
    return streaked(x, radius * scale(x), sigma * scale(x), angles)


def zoom_blur(x: Array, severity: int, draws: Draws) -> Array:
    """Average the image and its enlargements; nothing is random."""
    del draws
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    total = x.copy()
    for factor in factors:
        total += clipped_zoom(x, factor)
    return total / (len(factors) + 1)
