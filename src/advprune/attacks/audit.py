"""Let the official AutoAttack try some of the images that the fast engine left right."""

from collections.abc import Callable

import numpy as np
import pyautoattack
import torch
from torch import Tensor

from advprune.attacks.official_package import run_package
from advprune.attacks.watched import Watched


def audit(
    watched: Watched,
    y: Tensor,
    right: Tensor,
    x_adv: Tensor,
    *,
    official: Callable[[Watched], pyautoattack.AutoAttack],
    images: int,
    seed: int,
) -> Tensor:
    """Attack some of the images that are still right once more, with pyautoattack.

    Args:
        watched: the network and its images (N, C, H, W).
        y: labels (N,) int64.
        right: which images the engine left right, (N,) bool; those that fall now are marked here.
        x_adv: its points (N, C, H, W); the ones that fool are written here.
        official: makes the official attack of a network.
        images: how many are drawn; all that are right if there are fewer.
        seed: of the draw.

    Returns:
        Which images were audited, (N,) bool.
    """
    audited, drawn = torch.zeros_like(right), _drawn(right, images, seed)
    if not len(drawn):
        return audited
    audited[drawn] = True
    some = Watched(watched.model, watched.x[drawn], y[drawn], watched.threat)
    package = official(some)
    points, steps = run_package(package, list(package.attacks_to_run), some, y[drawn])
    fallen = ~steps[-1][1]
    x_adv[drawn[fallen]], right[drawn[fallen]] = points[fallen], False
    return audited


def share(images: int, span: tuple[int, int, int] | None) -> int:
    """Return how many of ``images`` a batch of an evaluation audits; all batches' add up to them.

    Args:
        images: that are audited in the whole evaluation.
        span: which of its images the batch has, as ``autoattack`` says; None if it has all.
    """
    if span is None:
        return images
    first, end, whole = span
    return images * end // whole - images * first // whole


def _drawn(right: Tensor, images: int, seed: int) -> Tensor:
    """Draw at most ``images`` rows that are right, int64 in ascending order."""
    rows = right.nonzero().squeeze(1)
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(rows))[:images]
    return rows[torch.from_numpy(np.sort(order)).to(rows.device)]
