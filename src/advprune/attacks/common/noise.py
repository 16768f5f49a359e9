"""The four noises of CIFAR-10-C, with the published constants.

From Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261. Images are float64
(N, C, H, W) in [0, 1]; severities are 1 to 5.

The distributions are the published ones; the numbers drawn are not, for the published generator's
state is not known.
"""

import numpy as np

from advprune.attacks.common.pixels import Array, Draws, per_image


def gaussian_noise(x: Array, severity: int, draws: Draws) -> Array:
    """Add normal noise to each channel."""
    deviation = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return x + deviation * per_image(draws, lambda g: g.standard_normal(x.shape[1:]))


def shot_noise(x: Array, severity: int, draws: Draws) -> Array:
    """Replace each value by a Poisson number of photons."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return (
        np.stack([g.poisson(image * photons) for image, g in zip(x, draws, strict=True)]) / photons
    )


def impulse_noise(x: Array, severity: int, draws: Draws) -> Array:
    """Set random values to black or white, each channel alone."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    draw = per_image(draws, lambda g: g.random(x.shape[1:]))
    return np.where(draw < share / 2, 0.0, np.where(draw < share, 1.0, x))


def speckle_noise(x: Array, severity: int, draws: Draws) -> Array:
    """Add normal noise in proportion to the pixel's value."""
    deviation = (0.06, 0.10, 0.12, 0.16, 0.20)[severity - 1]
    return x + x * deviation * per_image(draws, lambda g: g.standard_normal(x.shape[1:]))
