"""What the corruptions share: whole grey levels, sizes relative to CIFAR's 32 pixels, filters, shifts and samples.

Arrays are float64 (N, C, H, W) in [0, 1]. Nothing mixes images, so an image's result is the same in
any batch.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

Array = NDArray[np.float64]
Draws = list[np.random.Generator]

#: Of a grey level: what float rounding may take from a value that is a whole level, before it is
#: cut down to one.
ROUNDING = 1e-4


def scale(x: Array) -> float:
    """How much larger than CIFAR's 32 pixels the images are: lengths of the published constants are times this."""
    return min(x.shape[-2:]) / 32


def levels(x: Array) -> NDArray[np.uint8]:
    """Pixels as whole grey levels, cut down as the published set's are."""
    return np.floor(np.clip(x, 0, 1) * 255 + ROUNDING).astype(np.uint8)


def per_image(draws: Draws, draw: Callable[[np.random.Generator], Array | float]) -> Array:
    """One draw an image, stacked (N, …)."""
    return np.stack([np.asarray(draw(g), dtype=np.float64) for g in draws])


def smooth(x: Array, sigma: float, *, mode: str = "nearest", truncate: float = 4.0) -> Array:
    """Gaussian blur of the last two axes, as scikit-image does it."""
    return gaussian_filter(
        x, sigma=(*[0.0] * (x.ndim - 2), sigma, sigma), mode=mode, truncate=truncate
    )


def filtered(x: Array, kernel: Array) -> Array:
    """Correlation of (…, H, W) with a kernel of odd side (K, K), mirrored at the border without repeating it."""
    reach = len(kernel) // 2
    height, width = x.shape[-2:]
    padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(reach, reach)] * 2, mode="reflect")
    total = np.zeros_like(x)
    for row, column in zip(*np.nonzero(kernel), strict=True):
        total += kernel[row, column] * padded[..., row : row + height, column : column + width]
    return total


def clipped_zoom(x: Array, factor: float) -> Array:
    """The middle of (…, H, W), square, enlarged to the whole by scipy's linear zoom."""
    side = x.shape[-1]
    kept = int(np.ceil(side / factor))
    top = (side - kept) // 2
    enlarge = zoom(
        np.eye(kept), (factor, 1), order=1
    )  # linear and separable: the same matrix on both axes
    trim = (len(enlarge) - side) // 2
    enlarge = enlarge[trim : trim + side]
    return enlarge @ x[..., top : top + kept, top : top + kept] @ enlarge.T


def streaked(x: Array, radius: float, sigma: float, degrees: Array) -> Array:
    """Motion blur of (N, C, H, W), each image along its own angle, after ImageMagick's documented algorithm.

    A one-sided Gaussian of ``2 * ceil(radius) + 1`` taps at the nearest whole pixels; the border is
    repeated.
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
    """(N, C, H, W) at the places (N, H, W), bilinearly; borders mirrored with themselves (symmetric) or not."""
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
    """Indices outside [0, size) brought inside by mirrors at both ends."""
    if border == "symmetric":
        index = np.mod(index, 2 * size)
        return np.minimum(index, 2 * size - 1 - index)
    period = max(2 * size - 2, 1)
    index = np.mod(index, period)
    return np.minimum(index, period - index)


def pictures(x: Array) -> list[Image.Image]:
    """The images as PIL's, grey or colour."""
    stacked = np.moveaxis(levels(x), 1, -1)
    return [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in stacked]


def unpictured(images: list[Image.Image]) -> Array:
    """PIL's images as an array (N, C, H, W) in [0, 1]."""
    stacked = np.stack([np.atleast_3d(np.asarray(image)) for image in images])
    return np.moveaxis(stacked, -1, 1) / 255.0
