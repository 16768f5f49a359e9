"""Random numbers that belong to an image and not to a batch, and the choice of the worst of several draws."""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from advprune.frozen import frozen
from advprune.prediction import lead


def generators(name: str, positions: Iterable[int]) -> list[np.random.Generator]:
    """One Philox generator an image, keyed by ``name`` and the image's position in its test set.

    What an image draws depends on neither the order nor the size of the batches, nor on what was
    drawn before.
    """
    digest = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    keys = (np.array([digest, position], dtype=np.uint64) for position in positions)
    return [np.random.Generator(np.random.Philox(key=key)) for key in keys]


def places(positions: Tensor | None, count: int) -> list[int]:
    """The positions as numbers; without any, those in the batch."""
    return list(range(count)) if positions is None else [int(p) for p in positions.tolist()]


def uniform(name: str, seed: int, positions: list[int], draws: int, values: int) -> Tensor:
    """Uniform numbers in [0, 1) of each image: float64 (draws, N, values); fewer draws are the first of more."""
    each = [g.random((draws, values)) for g in generators(f"{name}/{seed}", positions)]
    return (
        torch.from_numpy(np.stack(each, axis=1))
        if each
        else torch.zeros(draws, 0, values, dtype=torch.float64)
    )


def integers(shares: Tensor, least: int, most: int) -> Tensor:
    """Uniform shares in [0, 1) as whole numbers, uniform in [least, most]: int64 of the same shape."""
    return least + (shares * (most - least + 1)).floor().long()


@torch.no_grad()
def worst(model: nn.Module, candidates: Iterable[Tensor], y: Tensor) -> Tensor:
    """Of several versions of each image (N, C, H, W), the one of largest margin: it fools the model if any does."""
    versions = iter(candidates)
    chosen = next(versions)
    second = next(versions, None)
    if second is None:
        return chosen  # nothing to choose, so the model is not asked
    with frozen(model):
        highest = lead(model(chosen), y)
        while second is not None:
            value = lead(model(second), y)
            better = value > highest
            chosen = torch.where(better.view(-1, 1, 1, 1), second, chosen)
            highest, second = torch.where(better, value, highest), next(versions, None)
    return chosen
