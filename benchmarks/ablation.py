"""Compare KL over ResNet-56 with its units one pass at a time: python -m benchmarks ablation

Against is what came before: for each unit of a layer the whole batch through what follows it,
2,048 images at once, in PyTorch's own memory format. Both are measured in turns on one layer of
each stage and 64 images, and told for all 27 layers and 256 images: a layer stands for its stage.
"""

import statistics
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advprune.frozen import frozen
from advprune.models.find_sites import filter_sites
from advprune.pruners.criteria.ablation import ablated_outputs
from advprune.sites import FilterSite
from benchmarks._turns import in_turns, place
from benchmarks.hrank import network

IMAGES, FEW, AT_ONCE, STAGE, BAR = 256, 64, 2048, 9, 5.0


def calibrated(x: Tensor) -> nn.Module:
    """Return a ResNet-56 with the statistics of these images: half of each map is zero."""
    net = network().train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        net(x)
    return net.eval().requires_grad_(False)


def ours(net: nn.Module, x: Tensor, site: FilterSite) -> Tensor:
    """Return the outputs without each filter of a layer, as the criteria ask for them."""
    x = x.contiguous(memory_format=torch.channels_last)
    with frozen(net), torch.no_grad():
        return ablated_outputs(net, x, site, net(x), at_once=AT_ONCE)


def before(net: Any, x: Tensor, site: FilterSite) -> Tensor:
    """Return the same, many units at once through the blocks that follow."""
    stages = nn.Sequential(*net.layer1, *net.layer2, *net.layer3)
    block = next(b for n, b in net.named_modules() if n == site.gate.rpartition(".")[0])
    at = next(number for number, other in enumerate(stages) if other is block)
    units: int = net.get_submodule(site.conv).out_channels
    copies, parts = AT_ONCE // len(x), []
    with frozen(net), torch.no_grad():
        inputs = stages[:at](net.bn1(net.conv1(net.normalize(x))).relu())
        maps = block.relu1(block.bn1(block.conv1(inputs)))
        for first in range(0, units, copies):
            many = min(copies, units - first)
            silent = maps.repeat(many, 1, 1, 1)
            for number, part in enumerate(silent.chunk(many)):
                part[:, first + number] = 0
            shortcut = block.shortcut(inputs).repeat(many, 1, 1, 1)
            out = stages[at + 1 :]((block.bn2(block.conv2(silent)) + shortcut).relu())
            parts.append(net.linear(out.mean((2, 3))).unflatten(0, (many, len(x))))
    return torch.cat(parts)


def run() -> list[dict[str, object]]:
    """Return one row: the ratio over all layers, of turns on the middle layer of each stage."""
    x = torch.rand(FEW, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    net = calibrated(x)
    taken = {"ours": 0.0, "before": 0.0}
    for site in filter_sites(net)[STAGE // 2 :: STAGE]:
        calls = {"ours": partial(ours, net, x, site), "before": partial(before, net, x, site)}
        torch.testing.assert_close(*(call() for call in calls.values()), rtol=1e-3, atol=1e-3)
        for name, turns in in_turns(calls, rounds=1, warm=0).items():
            taken[name] += statistics.median(turns) * STAGE * IMAGES / FEW
    return [
        {
            "what": f"kl over ResNet-56, {IMAGES} images, {place()}: {taken['ours']:.0f} s",
            "against": f"2,048 at once through what follows: {taken['before']:.0f} s, both "
            f"extrapolated from 3 layers of 27 and {FEW} images",
            "bar": f">= {BAR:.0f}x",
            "measured": f"{taken['before'] / taken['ours']:.1f}x",
        }
    ]


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
