"""Snow, frost, fog, brightness and spatter of CIFAR-10-C, with the published constants.

From Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261. Images are float64
(N, C, H, W) in [0, 1]; severities are 1 to 5.

Fog, brightness and spatter follow the published code. Snow re-derives ImageMagick's streaks. Frost
has no photographs, which are not ours to ship: a fractal with their statistics replaces them.
"""

import numpy as np

from advprune.attacks.common.edges import ridges
from advprune.attacks.common.pixels import (
    Array,
    Draws,
    clipped_zoom,
    levels,
    per_image,
    scale,
    smooth,
    streaked,
)

LUMA = (0.299, 0.587, 0.114)
WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)


def grey(x: Array) -> Array:
    """Return the luminance (N, 1, H, W) of images (N, C, H, W)."""
    return x if x.shape[1] == 1 else np.tensordot(np.asarray(LUMA), x, axes=(0, 1))[:, None]


def plasma(side: int, decay: float, draws: Draws) -> Array:
    """Return diamond-square fractals (N, side, side) in [0, 1].

    As in the published set, they are the corner of larger ones, whose side is a power of two.
    """
    size = 1 << (side - 1).bit_length()
    cells, step, wobble = np.zeros((len(draws), size, size)), size, 100.0

    def mean_of(total: Array) -> Array:
        spread = wobble * wobble  # the published code multiplies the amplitude in twice
        return total / 4 + per_image(draws, lambda g: g.uniform(-spread, spread, total.shape[1:]))

    while step >= 2:
        half = step // 2
        corners = cells[:, ::step, ::step]
        rows = corners + np.roll(corners, -1, axis=1)
        cells[:, half::step, half::step] = mean_of(rows + np.roll(rows, -1, axis=2))
        middles = cells[:, half::step, half::step]
        across = middles + np.roll(middles, 1, axis=1) + corners + np.roll(corners, -1, axis=2)
        cells[:, ::step, half::step] = mean_of(across)
        along = middles + np.roll(middles, 1, axis=2) + corners + np.roll(corners, -1, axis=1)
        cells[:, half::step, ::step] = mean_of(along)
        step, wobble = half, wobble / decay
    cells -= cells.min(axis=(1, 2), keepdims=True)
    return (cells / cells.max(axis=(1, 2), keepdims=True))[:, :side, :side]


def fog(x: Array, severity: int, draws: Draws) -> Array:
    """Add a fractal haze, and reduce the contrast by it."""
    thick, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity - 1]
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    return (
        (x + thick * plasma(x.shape[-1], decay, draws)[:, None]) * brightest / (brightest + thick)
    )


#: Of the crops of the five photographs that the published code draws from, in grey levels of (red,
#: green, blue): mean, deviation of the mean from crop to crop, deviation within a crop.
ICE = (
    ((77, 148, 165), (17, 10, 8), (21, 13, 13)),
    ((199, 203, 213), (8, 9, 10), (18, 18, 19)),
    ((199, 203, 213), (8, 9, 10), (18, 18, 19)),
    ((143, 158, 171), (10, 10, 11), (26, 26, 27)),
    ((103, 114, 126), (16, 16, 15), (35, 34, 34)),
)


def frost(x: Array, severity: int, draws: Draws) -> Array:
    """Add ice: a fractal as bright, as blue and as rough as one of the published photographs."""
    kept, ice = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    which = per_image(draws, lambda g: float(g.integers(len(ICE)))).astype(int)
    place = per_image(draws, lambda g: g.standard_normal())[:, None, None, None]
    mean, moved, spread = (np.asarray(ICE, dtype=np.float64)[which] / 255).transpose(1, 0, 2)[
        ..., None, None
    ]
    rough = plasma(x.shape[-1], 2.0, draws)[:, None]
    rough = (rough - rough.mean(axis=(2, 3), keepdims=True)) / rough.std(axis=(2, 3), keepdims=True)
    texture = np.clip(mean + moved * place + spread * rough, 0, 1)
    return kept * x + ice * (
        texture if x.shape[1] == 3 else np.repeat(grey(texture), x.shape[1], axis=1)
    )


def snow(x: Array, severity: int, draws: Draws) -> Array:
    """Add two layers of flakes that fall as streaks before a whitened image."""
    centre, spread, larger, least, radius, sigma, kept = (
        (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    flakes = clipped_zoom(
        centre + spread * per_image(draws, lambda g: g.standard_normal(x.shape[2:])), larger
    )
    flakes = levels(np.where(flakes < least, 0, flakes))[:, None] / 255.0
    angles = per_image(draws, lambda g: g.uniform(-135, -45))
    fallen = levels(streaked(flakes, radius * scale(x), sigma * scale(x), angles)) / 255.0
    white = kept * x + (1 - kept) * np.maximum(x, grey(x) * 1.5 + 0.5)
    return white + fallen + fallen[..., ::-1, ::-1]


def brightness(x: Array, severity: int, draws: Draws) -> Array:
    """Raise the value (of hue, saturation, value); nothing is random."""
    del draws
    value = x.max(axis=1, keepdims=True)
    more = np.clip(value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1], 0, 1)
    return np.where(value > 0, x * more / np.where(value > 0, value, 1), more)


def spatter(x: Array, severity: int, draws: Draws) -> Array:
    """Add drops of water on the lens, or of mud from severity 4."""
    centre, spread, sigma, least, strength = (
        (0.62, 0.1, 0.7, 0.7, 0.5),
        (0.65, 0.1, 0.8, 0.7, 0.5),
        (0.65, 0.3, 1.0, 0.69, 0.5),
        (0.65, 0.1, 0.7, 0.69, 0.6),
        (0.65, 0.1, 0.5, 0.68, 0.6),
    )[severity - 1]
    liquid = smooth(
        centre + spread * per_image(draws, lambda g: g.standard_normal(x.shape[2:])),
        sigma * scale(x),
    )
    liquid = np.where(liquid < least, 0, liquid)
    if severity > 3:
        cover = smooth((liquid > least).astype(np.float64), strength * scale(x))[:, None]
        cover = np.where(cover < 0.8, 0, cover)
        return x * (1 - cover) + cover * _tint(MUD, x)
    drops = np.stack([drop.astype(np.float64) * ridges(drop) for drop in levels(liquid)])
    strongest = drops.max(axis=(1, 2), keepdims=True)
    drops = strength * drops / np.where(strongest > 0, strongest, 1)
    return x + drops[:, None] * _tint(WATER, x)


def _tint(colour: tuple[float, ...], x: Array) -> Array:
    """Return the colour, (C, 1, 1), or its luminance for grey images."""
    values = np.asarray(colour) if x.shape[1] == 3 else np.full(x.shape[1], np.dot(LUMA, colour))
    return values[:, None, None]
