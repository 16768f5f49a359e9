"""Seconds of one pass of every criterion over ResNet-56: OMP_NUM_THREADS=2 python benchmarks/criteria.py [images].

HRank is also timed as it is published: one image at a time, and numpy's matrix_rank for each filter's map; with one
forward pass for each layer, as code that asks a sub-model for each layer's maps has it, and with a single one. KL needs
a pass for each of 1,008 filters; on a CPU it looks at 16 images here, and the time for 1,000 is extrapolated.
"""

import sys
import time
from functools import partial

import numpy as np
import torch
from torch import nn

from advprune.models.cifar_resnet import CifarResNet
from advprune.models.structure import block_sites, filter_sites
from advprune.pruners.criteria import bn_scale, expected_abs, fpgm, hrank, kl, l1, l2, pls, random, taylor
from advprune.pruners.criteria.sight import outputs

LOOPED = 4
GPU = torch.cuda.is_available()


def network() -> nn.Module:
    torch.manual_seed(0)
    constants = {"num_classes": 10, "in_channels": 3, "image_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    return CifarResNet(depth=56, **constants).eval()


def loop(model: nn.Module, x: torch.Tensor, places: list[str], *, each_layer: bool) -> float:
    """Seconds an image takes one by one; the model on the CPU."""
    begun = time.perf_counter()
    for image in x:
        batches = [[place] for place in places] if each_layer else [places]
        for wanted in batches:
            for maps in outputs(model, image[None], wanted).values():
                for one in maps[0].numpy():
                    np.linalg.matrix_rank(one)
    return (time.perf_counter() - begun) / len(x)


def main() -> None:
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    device = torch.device("cuda" if GPU else "cpu")
    model, sites = network(), filter_sites(network())
    x, y = torch.rand(images, 3, 32, 32), torch.randint(0, 10, (images,))
    batches = [(x[i : i + 100].to(device), y[i : i + 100].to(device)) for i in range(0, images, 100)]
    looked = images if GPU else 16
    few = [(x[:looked].to(device), y[:looked].to(device))] if not GPU else batches
    criteria = {
        "l1": l1.l1, "l2": l2.l2, "fpgm": fpgm.fpgm, "bn_scale": bn_scale.bn_scale,
        "random": partial(random.random, seed=0), "taylor": partial(taylor.taylor, images=None),
        "expected_abs": expected_abs.expected_abs, "hrank": partial(hrank.hrank, images=None),
        "pls": partial(pls.pls, images=None), "kl": partial(kl.kl, images=None),
    }  # fmt: skip
    model.to(device)
    print(f"{device.type}, {torch.get_num_threads()} threads, ResNet-56, {images} images; seconds: filters, blocks")
    taken = {}
    for name, criterion in criteria.items():
        for unit in (sites, block_sites(model)):
            begun = time.perf_counter()
            criterion(model, few if name == "kl" else batches, sites=unit)
            if GPU:
                torch.cuda.synchronize()
            taken[name, unit is sites] = time.perf_counter() - begun
        note = f" (on {looked} images; {images} would take {taken[name, True] * images / looked:.0f} s)"
        print(f"{name:13} {taken[name, True]:8.2f} {taken[name, False]:8.2f}{note if name == 'kl' and not GPU else ''}")
    model.cpu()
    places = [site.active for site in sites]
    for each_layer in (True, False):
        slow = loop(model, x[:LOOPED], places, each_layer=each_layer) * images
        kind = "a pass for each layer" if each_layer else "one pass an image"
        print(f"hrank as a loop, {kind}: {slow:.0f} s, {slow / taken['hrank', True]:.1f} times as long")


if __name__ == "__main__":
    main()
