"""Image operations shared by the corruptions: grey levels, filters, zooms, shifts and samples.

Arrays are float64 (N, C, H, W) in [0, 1]. No operation mixes images, so an image's result is the
same in any batch.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

Array = NDArray[np.float64]
Draws = list[np.random.Generator]

#: The error, in grey levels, that float rounding may cause before a value is cut to a whole level.
ROUNDING = 1e-4


def scale(x: Array) -> float:
    """Return the images' side over CIFAR's 32 pixels, by which published lengths are multiplied."""
    return min(x.shape[-2:]) / 32


def levels(x: Array) -> NDArray[np.uint8]:
    """Round pixels down to whole grey levels, as in the published set."""
    return np.floor(np.clip(x, 0, 1) * 255 + ROUNDING).astype(np.uint8)


def per_image(draws: Draws, draw: Callable[[np.random.Generator], Array | float]) -> Array:
    """Draw once for each image, and stack the results (N, …)."""
    return np.stack([np.asarray(draw(g), dtype=np.float64) for g in draws])


def smooth(x: Array, sigma: float, *, mode: str = "nearest", truncate: float = 4.0) -> Array:
    """Blur the last two axes with a Gaussian, as scikit-image does."""
    return gaussian_filter(
        x, sigma=(*[0.0] * (x.ndim - 2), sigma, sigma), mode=mode, truncate=truncate
    )


def filtered(x: Array, kernel: Array) -> Array:
    """Correlate (…, H, W) with a kernel of odd side (K, K); the border is mirrored."""
    reach = len(kernel) // 2
    height, width = x.shape[-2:]
    padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(reach, reach)] * 2, mode="reflect")
    total = np.zeros_like(x)
    for row, column in zip(*np.nonzero(kernel), strict=True):
        total += kernel[row, column] * padded[..., row : row + height, column : column + width]
    return total


def clipped_zoom(x: Array, factor: float) -> Array:
    """Enlarge the middle of square images (…, H, W) to the whole, by scipy's linear zoom."""
    side = x.shape[-1]
    kept = int(np.ceil(side / factor))
    top = (side - kept) // 2
    # linear and separable: the same matrix on both axes
    enlarge = zoom(np.eye(kept), (factor, 1), order=1)
    trim = (len(enlarge) - side) // 2
    enlarge = enlarge[trim : trim + side]
    return enlarge @ x[..., top : top + kept, top : top + kept] @ enlarge.T


def streaked(x: Array, radius: float, sigma: float, degrees: Array) -> Array:
    """Blur images (N, C, H, W) along one angle each, after ImageMagick's documented algorithm.

    The kernel is a one-sided Gaussian of ``2 * ceil(radius) + 1`` taps at the nearest whole pixels;
    the border is repeated.

    Args:
        x: images (N, C, H, W).
        radius: length of the streak, in pixels.
        sigma: standard deviation of the Gaussian, in pixels.
        degrees: angle of each image, (N,).
    """
    taps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angles = np.deg2rad(degrees)[:, None]
    rows = np.ceil(taps * np.sin(angles) - 0.5).astype(int)
    columns = np.ceil(taps * np.cos(angles) - 0.5).astype(int)
    height, width = x.shape[-2:]
    image, down, right = np.arange(len(x))[:, None, None], np.arange(height), np.arange(width)
    last, total = np.moveaxis(x, 1, -1), 0.0
    for tap, weight in enumerate(weights):
        row = np.clip(down + rows[:, tap, None], 0, height - 1)[:, :, None]
        column = np.clip(right + columns[:, tap, None], 0, width - 1)[:, None, :]
        total = total + weight * last[image, row, column]
    return np.moveaxis(np.asarray(total), -1, 1)


def sampled(x: Array, rows: Array, columns: Array, *, border: str) -> Array:
    """Sample images (N, C, H, W) bilinearly at the places (N, H, W).

    Args:
        x: images (N, C, H, W).
        rows: row of each sample, (N, H, W).
        columns: column of each sample, (N, H, W).
        border: ``symmetric`` to mirror at the border and repeat it, ``reflect`` to not repeat it.
    """
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    image, last = np.arange(len(x))[:, None, None], np.moveaxis(x, 1, -1)

    def at(row: NDArray[np.int_], column: NDArray[np.int_]) -> Array:
        return last[
            image, _mirrored(row, x.shape[-2], border), _mirrored(column, x.shape[-1], border)
        ]

    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return np.moveaxis(upper * (1 - down) + lower * down, -1, 1)


def _mirrored(index: NDArray[np.int_], size: int, border: str) -> NDArray[np.int_]:
    """Bring indices into [0, size) by mirrors at both ends."""
    if border == "symmetric":
        index = np.mod(index, 2 * size)
        return np.minimum(index, 2 * size - 1 - index)
    period = max(2 * size - 2, 1)
    index = np.mod(index, period)
    return np.minimum(index, period - index)


def pictures(x: Array) -> list[Image.Image]:
    """Convert images (N, C, H, W) to PIL's, grey or colour."""
    stacked = np.moveaxis(levels(x), 1, -1)
    return [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in stacked]


def unpictured(images: list[Image.Image]) -> Array:
    """Convert PIL's images to an array (N, C, H, W) in [0, 1]."""
    stacked = np.stack([np.atleast_3d(np.asarray(image)) for image in images])
    return np.moveaxis(stacked, -1, 1) / 255.0
