"""Common corruptions (Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261).

15 + 4 kinds at 5 severities with CIFAR-10-C's constants, lengths scaled with the image. Random
numbers belong to an image, so no order of batches changes a bit. Those of the published set are not
known, so these images follow its recipe but are not the same: see ``NEAR``.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, TypeAlias

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from advprune.attacks.common import blur, digital, noise, weather
from advprune.attacks.common.pixels import Array, Draws, levels
from advprune.attacks.per_image_rng import generators, places
from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.logits import is_right
from advprune.ranges import Seed

#: How strong a corruption is, 1 to 5.
Severity: TypeAlias = Annotated[int, Ge(1), Le(5)]
MAIN: dict[str, Callable[[Array, int, Draws], Array]] = {
    f.__name__: f
    for f in (
        *(noise.gaussian_noise, noise.shot_noise, noise.impulse_noise),
        *(blur.defocus_blur, blur.glass_blur, blur.motion_blur, blur.zoom_blur),
        *(weather.snow, weather.frost, weather.fog, weather.brightness),
        *(digital.contrast, digital.elastic_transform, digital.pixelate, digital.jpeg_compression),
    )
}
EXTRA = {
    f.__name__: f
    for f in (noise.speckle_noise, blur.gaussian_blur, weather.spatter, digital.saturate)
}
ALL = MAIN | EXTRA

#: How near each kind is to CIFAR-10-C's at 32 x 32 pixels; docs/corruptions.md has measurements.
NEAR = dict.fromkeys(
    ALL, "the published code's formula; other random numbers where it draws any"
) | {
    "motion_blur": "re-derived from ImageMagick's algorithm",
    "snow": "its streaks re-derived from ImageMagick's algorithm",
    "frost": "a fractal as bright, blue and rough as one of the published photographs",
    "elastic_transform": "sampled exactly, where OpenCV rounds to 32nds of a pixel",
    "jpeg_compression": "the published qualities, in Pillow's own libjpeg",
    "spatter": "the published formula; "
    "water's edges and distances re-derived from OpenCV's documentation",
}


def corrupt(x: Tensor, name: str, severity: int, positions: list[int], *, seed: int = 0) -> Tensor:
    """Return the images with one corruption, in whole grey levels.

    Args:
        x: clean images (N, C, H, W), float32 in [0, 1].
        name: name of the corruption, a key of ``ALL``.
        severity: 1 to 5.
        positions: places of the images in their test set; they, the name, the severity and the
            seed decide all random numbers.
        seed: seed of the random numbers.

    Returns:
        (N, C, H, W) in [0, 1], of the type and on the device of ``x``.
    """
    clean = x.detach().cpu().numpy().astype(np.float64)
    corrupted = ALL[name](clean, severity, generators(f"{name}/{severity}/{seed}", positions))
    return torch.from_numpy(levels(corrupted)).to(x.device).to(x.dtype).div_(255)


def corruptions(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    names: list[str] | None = None,
    severities: list[Severity],
    seed: Seed = 0,
    positions: Tensor | None = None,
    verdicts: dict[str, Tensor] | None = None,
) -> Tensor:
    """Try every corruption at every severity.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); evaluated in eval mode and restored
            afterwards.
        x: clean images (N, C, H, W) of whole grey levels, float32 in [0, 1], square.
        y: labels (N,) int64.
        names: kinds of corruption; None for the 15 of the benchmark, without the 4 extra ones.
        severities: severities to try, each 1 to 5.
        seed: seed of the random numbers.
        positions: places of the images in their test set (N,), which decide the random numbers.
        verdicts: a dict to which ``"name.severity" -> flags`` is added; flags (N,) bool say which
            images are right under that corruption.

    Returns:
        x_adv (N, C, H, W): per image the first corruption that fooled the model, or the last one.

    Raises:
        UserError: for an unknown name or severity, or none, or images that are not square.
    """
    names = list(MAIN) if names is None else names
    check(names, severities, known=list(ALL))
    if x.shape[-1] != x.shape[-2]:
        raise UserError(
            f"corruptions: the images are {x.shape[-2]} x {x.shape[-1]}; they must be square"
        )
    numbers = places(positions, len(x))
    corrupted = (
        (name, s, corrupt(x, name, s, numbers, seed=seed)) for name in names for s in severities
    )
    return worst_corrupted(model, x, y, corrupted, verdicts)


def worst_corrupted(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    corrupted: Iterable[tuple[str, int, Tensor]],
    verdicts: dict[str, Tensor] | None,
) -> Tensor:
    """Evaluate the model on each version of the images, and return the first that fools it.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K).
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        corrupted: (name, severity, images (N, C, H, W)) of each version.
        verdicts: a dict to which ``"name.severity" -> flags`` is added, see ``corruptions``.

    Returns:
        (N, C, H, W): per image the first version that fooled the model, or the last one.
    """
    x_adv, robust = x.detach().clone(), torch.ones_like(y, dtype=torch.bool)
    for name, severity, images in corrupted:
        with frozen(model), torch.no_grad():
            right = is_right(model(images), y)
        if verdicts is not None:
            verdicts[f"{name}.{severity}"] = right
        x_adv[robust] = images[robust]
        robust &= right
    return x_adv


def check(names: list[str], severities: list[int], *, known: list[str]) -> None:
    """Check the names and severities of corruptions.

    Raises:
        UserError: naming what was passed and what exists, if one is unknown or none is named.
    """
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UserError(f"attack.names={names} must be some of {', '.join(known)}")
    if not severities or not set(severities) <= {1, 2, 3, 4, 5}:
        raise UserError(f"attack.severities={severities} must be some of 1, 2, 3, 4, 5")
