"""Compare HRank over ResNet-56 with three loops over single matrices: python -m benchmarks hrank

* the ranks alone: numpy's ``matrix_rank`` of each image's map of each filter, the maps at hand;
* as the authors' code has it (https://github.com/arturjordao/DeepPruning): for each layer a
  sub-model over all images, 32 at once, then these ranks;
* one image at a time: for each image and each layer a sub-model's pass of this image, then its
  ranks.

Each is measured on a few images right after ours on as many batches, and all are told per 1,000
images; the medians of the turns' ratios. A loop of ranks uses one core by nature, a forward pass
both.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from advprune.models.cifar_resnet import CifarResNet
from advprune.models.find_sites import filter_sites
from advprune.pruners.criteria.feature_maps import outputs
from advprune.pruners.criteria.hrank import hrank
from advprune.pruners.criteria.matrix_rank import ranks
from benchmarks._turns import CIFAR

IMAGES, BATCH, OURS, LOOPED, TURNS = 1000, 32, 96, 2, 5
BAR = 20.0


class Reached(Exception):  # noqa: N818 - not an error: a sub-model ends here
    """The layer that a sub-model ends with has answered."""


def network() -> nn.Module:
    """Return a fresh ResNet-56 in eval mode."""
    torch.manual_seed(0)
    return CifarResNet(depth=56, **CIFAR).eval()


def sub_model(model: nn.Module, x: Tensor, place: str) -> Tensor:
    """Return the maps of one layer, by a pass that ends there."""
    maps: list[Tensor] = []

    def end(module: nn.Module, args: object, out: Tensor) -> None:
        maps.append(out)
        raise Reached

    handle = model.get_submodule(place).register_forward_hook(end)
    try:
        with torch.no_grad():
            model(x)
    except Reached:
        return maps[0]
    finally:
        handle.remove()
    raise AssertionError(place)


def one_by_one(maps: list[Tensor]) -> None:
    """Compute numpy's rank of each map of (N, C, H, W) tensors."""
    for whole in maps:
        for map_ in whole.flatten(0, 1).numpy():
            np.linalg.matrix_rank(map_)


def seconds(call: Callable[[], object], images: int) -> float:
    """Return the seconds of 1,000 images, extrapolated from one call with ``images``."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * IMAGES / images


def turn(model: nn.Module, x: Tensor, places: list[str]) -> dict[str, tuple[float, float]]:
    """Return our seconds and each loop's, measured beside each other."""
    y = torch.zeros(OURS, dtype=torch.long)
    batches = [(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, OURS, BATCH)]
    maps = list(outputs(model, x[:BATCH], places).values())
    few = [whole[:LOOPED] for whole in maps]

    def layers(images: Tensor) -> None:
        for place in places:
            sub_model(model, images, place)

    batched = seconds(lambda: [ranks(whole) for whole in maps], BATCH)
    looped = seconds(partial(one_by_one, few), LOOPED)
    ours = seconds(lambda: hrank(model, batches, sites=filter_sites(model), images=None), OURS)
    published = seconds(lambda: layers(x[:BATCH]), BATCH) + looped
    single = seconds(lambda: [layers(x[i : i + 1]) for i in range(LOOPED)], LOOPED) + looped
    return {
        "ranks alone": (batched, looped),
        "the authors' loop": (ours, published),
        "image by image": (ours, single),
    }


def run() -> list[dict[str, object]]:
    """Return one row for each loop."""
    model = network()
    x, places = torch.rand(OURS, 3, 32, 32), [site.active for site in filter_sites(model)]
    turn(model, x, places)  # warms caches and threads
    turns = [turn(model, x, places) for _ in range(TURNS)]
    rows: list[dict[str, object]] = []
    for name in turns[0]:
        ours, loop = (statistics.median(t[name][side] for t in turns) for side in (0, 1))
        ratio = statistics.median(t[name][1] / t[name][0] for t in turns)
        against = (
            f"{loop:.0f} s: {name}, extrapolated from {LOOPED} images (layers' passes: {BATCH})"
        )
        what = f"hrank, 1,000 images, ResNet-56, {torch.get_num_threads()} threads: {ours:.1f} s"
        rows.append(
            {"what": what, "against": against, "bar": f">= {BAR:.0f}x", "measured": f"{ratio:.1f}x"}
        )
    return rows
