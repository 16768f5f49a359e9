"""Contrast, elastic transform, pixelation, JPEG and saturation of CIFAR-10-C.

From Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261, with the published constants.
Images are float64 (N, C, H, W) in [0, 1]; severities are 1 to 5.

JPEG's bytes depend on Pillow's libjpeg; the elastic transform samples exactly, where OpenCV, which
the published code calls, samples at 32nds of a pixel.
"""

from io import BytesIO

import numpy as np
from PIL import Image

from advprune.attacks.common.pixels import (
    Array,
    Draws,
    per_image,
    pictures,
    sampled,
    smooth,
    unpictured,
)


def contrast(x: Array, severity: int, draws: Draws) -> Array:
    """Shrink the differences from the channel's mean; nothing is random."""
    del draws
    mean = x.mean(axis=(2, 3), keepdims=True)
    return (x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] + mean


def saturate(x: Array, severity: int, draws: Draws) -> Array:
    """Reduce the saturation (severities 1 and 2) or raise it; nothing is random.

    Grey images stay as they are.
    """
    del draws
    if x.shape[1] != 3:
        return x
    factor, more = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[severity - 1]
    value, least = x.max(axis=1, keepdims=True), x.min(axis=1, keepdims=True)
    before = np.divide(value - least, value, out=np.zeros_like(value), where=value > 0)
    after = np.clip(before * factor + more, 0, 1)
    share = np.divide(value - x, value * before, out=np.zeros_like(x), where=before > 0)
    red = np.asarray((0.0, 1.0, 1.0))[:, None, None]  # by convention the hue of a grey pixel
    return value - np.where(before > 0, share, red) * value * after


def jpeg_compression(x: Array, severity: int, draws: Draws) -> Array:
    """Compress with JPEG and decode again; nothing is random."""
    del draws
    return unpictured(
        [_through_jpeg(image, (80, 65, 58, 50, 40)[severity - 1]) for image in pictures(x)]
    )


def _through_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def pixelate(x: Array, severity: int, draws: Draws) -> Array:
    """Resize to fewer pixels and back; nothing is random."""
    del draws
    height, width = x.shape[-2:]
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    few, box = (max(1, int(width * share)), max(1, int(height * share))), Image.Resampling.BOX
    return unpictured(
        [image.resize(few, box).resize((width, height), box) for image in pictures(x)]
    )


def elastic_transform(x: Array, severity: int, draws: Draws) -> Array:
    """Pull three points apart, then move each pixel together with its neighbours."""
    side = min(x.shape[-2:])
    strength, sigma, pull = (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity - 1]
    down, right = np.meshgrid(
        *(np.arange(n, dtype=np.float64) for n in x.shape[-2:]), indexing="ij"
    )
    centre, arm = side // 2, side // 3
    fixed = np.array(
        [[centre + arm, centre + arm], [centre + arm, centre - arm], [centre - arm, centre - arm]],
        float,
    )
    pulled = fixed + per_image(draws, lambda g: g.uniform(-pull * side, pull * side, fixed.shape))
    ones = np.ones((len(x), 3, 1))
    back = np.linalg.solve(
        np.concatenate([pulled, ones], axis=2), np.broadcast_to(fixed, pulled.shape)
    )
    places = np.stack([right.ravel(), down.ravel(), np.ones(right.size)], axis=1)
    source = (places @ back).reshape(len(x), *right.shape, 2)
    warped = sampled(x, source[..., 1], source[..., 0], border="reflect")
    moves = per_image(draws, lambda g: g.uniform(-1, 1, (2, *right.shape)))
    moves = smooth(moves, sigma * side, mode="reflect", truncate=3.0) * strength * side
    return sampled(warped, down + moves[:, 1], right + moves[:, 0], border="symmetric")
