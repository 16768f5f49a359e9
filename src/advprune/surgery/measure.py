"""Sizes that matter to users: bytes stored, and seconds per image."""

import statistics
import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from advprune.frozen import frozen


def file_bytes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the bytes of the tensors, stored ``dense`` and ``sparse``.

    Sparse is a bit per entry and the non-zero values.

    A tensor that is smaller dense stays dense in ``sparse``; headers are not counted.
    """
    dense = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    sparse = sum(
        min(
            t.numel() * t.element_size(),
            -(-t.numel() // 8) + int(torch.count_nonzero(t)) * t.element_size(),
        )
        for t in state.values()
    )
    return {"dense": dense, "sparse": sparse}


def latencies(
    models: Mapping[str, nn.Module], shape: tuple[int, int, int], *, batch: int, repeats: int = 15
) -> dict[str, float]:
    """Return the seconds of one forward pass of a batch for each model.

    Models are measured in turns, so that a busy moment hits all alike.

    Args:
        batch: images in the batch.
        models: on the CPU, by name.
        shape: (C, H, W) of an image.
        repeats: turns; the median is returned.
    """
    x = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))
    taken: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(repeats + 2):
        for name, model in models.items():
            with frozen(model), torch.inference_mode():
                begun = time.perf_counter()
                model(x)
                seconds = time.perf_counter() - begun
            if turn >= 2:  # the first two warm caches and threads
                taken[name].append(seconds)
    return {name: statistics.median(times) for name, times in taken.items()}
