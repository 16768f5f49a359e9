"""Random numbers that belong to an image and not to a batch, and the worst of several draws."""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from advprune.frozen import frozen
from advprune.logits import lead


def generators(name: str, positions: Iterable[int]) -> list[np.random.Generator]:
    """Make one generator per image, from ``name`` and the image's position in its test set.

    Its numbers depend neither on the order nor on the size of the batches, nor on earlier draws.
    """
    digest = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    keys = (np.array([digest, position], dtype=np.uint64) for position in positions)
    return [np.random.Generator(np.random.Philox(key=key)) for key in keys]


def places(positions: Tensor | None, count: int) -> list[int]:
    """Return positions in the test set (N,) as a list; without any, the ``count`` of the batch."""
    return list(range(count)) if positions is None else [int(p) for p in positions.tolist()]


def uniform(name: str, seed: int, positions: list[int], draws: int, values: int) -> Tensor:
    """Draw numbers uniform in [0, 1) for each image; fewer draws are the first of more.

    Args:
        name: what they are for; another name gives other numbers.
        seed: seed of the run.
        positions: places of the N images in their test set.
        draws: how many draws each image has.
        values: how many numbers each draw has.

    Returns:
        float64 (draws, N, values).
    """
    each = [g.random((draws, values)) for g in generators(f"{name}/{seed}", positions)]
    return (
        torch.from_numpy(np.stack(each, axis=1))
        if each
        else torch.zeros(draws, 0, values, dtype=torch.float64)
    )


def integers(shares: Tensor, least: int, most: int) -> Tensor:
    """Turn numbers uniform in [0, 1) into int64 uniform in [least, most], of the same shape."""
    return least + (shares * (most - least + 1)).floor().long()


@torch.no_grad()
def worst(model: nn.Module, candidates: Iterable[Tensor], y: Tensor) -> Tensor:
    """Return of several versions of each image the most harmful: it fools the model if any does.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); evaluated in eval mode. It is not
            run if there is only one version.
        candidates: versions of the images, each (N, C, H, W); at least one.
        y: labels (N,) int64.

    Returns:
        (N, C, H, W): per image the version with the largest lead of a wrong class.
    """
    versions = iter(candidates)
    chosen = next(versions)
    second = next(versions, None)
    if second is None:
        return chosen
    with frozen(model):
        highest = lead(model(chosen), y)
        while second is not None:
            value = lead(model(second), y)
            better = value > highest
            chosen = torch.where(better.view(-1, 1, 1, 1), second, chosen)
            highest, second = torch.where(better, value, highest), next(versions, None)
    return chosen
