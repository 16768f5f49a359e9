"""Time one pass of every criterion over ResNet-56: python -m benchmarks.criteria [images]

KL and CKA need a pass for each of 1,008 filters; on a CPU they look at 16 images here, and the time
for 1,000 is extrapolated. HRank beside loops of one matrix at a time: benchmarks/hrank.py.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from advprune.models.find_sites import block_sites, filter_sites
from advprune.pruners.criteria import (
    bn_scale,
    cka,
    expected_abs,
    fpgm,
    hrank,
    kl,
    l1,
    l2,
    pls,
    random,
    taylor,
)
from benchmarks.hrank import network

IMAGES, BATCH, FEW = 1000, 100, 16
CRITERIA: dict[str, Callable[..., Any]] = {
    "l1": l1.l1,
    "l2": l2.l2,
    "fpgm": fpgm.fpgm,
    "bn_scale": bn_scale.bn_scale,
    "random": partial(random.random, seed=0),
    "taylor": partial(taylor.taylor, images=None),
    "expected_abs": partial(expected_abs.expected_abs, images=None),
    "hrank": partial(hrank.hrank, images=None),
    "pls": partial(pls.pls, images=None),
    "kl": partial(kl.kl, images=None),
    "cka": partial(cka.cka, images=None),
}


def run(images: int = IMAGES) -> list[dict[str, object]]:
    """Return one row for each criterion and unit."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    model = network().to(device)
    x, y = torch.rand(images, 3, 32, 32), torch.randint(0, 10, (images,))
    place = (
        f"GPU, {images} images" if gpu else f"{torch.get_num_threads()} threads, {images} images"
    )
    rows: list[dict[str, object]] = []
    for name, criterion in CRITERIA.items():
        used = FEW if name in ("kl", "cka") and not gpu else images
        batches = [
            (x[i : min(i + BATCH, used)].to(device), y[i : min(i + BATCH, used)].to(device))
            for i in range(0, used, BATCH)
        ]
        for unit, sites in (("filters", filter_sites(model)), ("blocks", block_sites(model))):
            start = time.perf_counter()
            criterion(model, batches, sites=sites)
            if gpu:
                torch.cuda.synchronize()
            taken = (time.perf_counter() - start) * images / used
            note = place if used == images else f"{place}, extrapolated from {used}"
            rows.append(
                {
                    "what": f"{name}, {unit}",
                    "against": note,
                    "bar": "",
                    "measured": f"{taken:.2f} s",
                }
            )
    return rows


if __name__ == "__main__":
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES):
        print(f"{row['what']:22} {row['measured']:>10}  {row['against']}")
