"""Compare certified smoothing with as many plain forwards: python -m benchmarks.smoothing_cost

Plain forwards: the same network, the same number of images, the same batches, on images that are
there already. What certification adds is the noise, made on the device from each image's own seed,
and the counting of classes. Both are timed in turns; on a processor by its own seconds on one
thread, for those of a neighbour are not their cost. There the samples are fewer, so that it ends in
minutes; the cost of a sample does not depend on how many there are.
"""

import statistics
import sys
from typing import Any

import torch
from torch import nn

from advprune.bounds.smoothing import certify_smoothing
from advprune.models.resnet import ResNet
from advprune.models.vgg import VGG16BN
from advprune.runtime import speed
from advprune.threat import L2
from benchmarks._turns import CIFAR, DEVICE, in_turns


def ratio(net: nn.Module, device: str, samples: int, forward_size: int, rounds: int) -> float:
    """Return the median time of certifying two images over that of as many plain forwards."""
    net = net.to(device).eval()
    x, y = torch.rand(2, 3, 32, 32, device=device), torch.zeros(2, dtype=torch.long, device=device)
    places, batch = torch.arange(2), torch.rand(forward_size, 3, 32, 32, device=device)

    def certify() -> None:
        certify_smoothing(
            net,
            x,
            y,
            threat=L2(0.25),
            positions=places,
            n0=100,
            n=samples - 100,
            forward_size=forward_size,
        )

    def plain() -> None:
        left = 2 * samples
        while left > 0:
            net(batch[:left])
            left -= forward_size

    with torch.no_grad():
        times = in_turns({"certify": certify, "plain": plain}, rounds)
    return statistics.median(times["certify"]) / statistics.median(times["plain"])


def run(rounds: int = 3, device: str | None = None) -> list[dict[str, Any]]:
    """Return one row for each network: times the cost of plain forwards."""
    torch.set_num_threads(1)
    speed.keep_freed_memory()  # as every command does
    device = device or DEVICE
    samples, forward_size = (100_000, 10_000) if device == "cuda" else (250, 500)
    rows = []
    for name, net in (
        ("vgg16_bn", VGG16BN(**CIFAR)),
        ("resnet18, a quarter as wide", ResNet(depth=18, width=16, **CIFAR)),
    ):
        what = f"certify_smoothing, {name}, {samples} samples an image, {device}"
        measured = ratio(net, device, samples, forward_size, rounds)
        rows.append(
            {"what": what, "against": "plain forwards", "bar": "<= 1.05", "measured": measured}
        )
    return rows


if __name__ == "__main__":
    for row in run(device=sys.argv[1] if len(sys.argv) > 1 else None):
        print(
            f"{row['what']:80} {row['measured']:8.3f}   bar {row['bar']}   against {row['against']}"
        )
