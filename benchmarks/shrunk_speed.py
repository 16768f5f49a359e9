"""ResNet-56 without half of its MACs beside the dense one on a CPU.

OMP_NUM_THREADS=2 python benchmarks/shrunk_speed.py [repeats]
Filters (of every layer alike, and kept to multiples of 8) and blocks; measured in turns, medians.
"""

import copy
import sys

import torch

from advprune.models.cifar_resnet import CifarResNet
from advprune.models.structure import block_sites, filter_sites
from advprune.pruners import blocks, filters
from advprune.pruners.criteria.l1 import l1
from advprune.surgery.budget import dense
from advprune.surgery.measure import latencies
from advprune.surgery.structure import Structure, shrink

SHAPE = (3, 32, 32)
RATIO = 0.5


def main() -> None:
    torch.manual_seed(0)
    constants = {"num_classes": 10, "in_channels": 3, "image_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    net = CifarResNet(depth=56, **constants).eval()
    whole = dense(net, filter_sites(net), block_sites(net), SHAPE)
    scores, models, left = l1(net, [], sites=whole.filters), {"dense": net}, {"dense": 1.0}
    for multiple in (1, 8):
        kept = filters.choose(scores, RATIO, scope="layer", original=whole.widths, round_to=multiple,
                              share=lambda removed: whole.share("macs", removed, []))  # fmt: skip
        name = "filters" if multiple == 1 else f"filters, multiples of {multiple}"
        models[name] = shrink(copy.deepcopy(net), Structure(kept, [], {}), groups=whole.groups, sites=whole.blocks)
        removed = {site: width - len(kept[site]) for site, width in whole.widths.items()}
        left[name] = 1 - whole.share("macs", removed, [])
    gone = blocks.choose(l1(net, [], sites=whole.blocks), RATIO, sites=whole.blocks,
                         share=lambda names: whole.share("macs", {}, names))  # fmt: skip
    models["blocks"] = shrink(copy.deepcopy(net), Structure({}, gone, {}), groups=whole.groups, sites=whole.blocks)
    left["blocks"] = 1 - whole.share("macs", {}, gone)
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    for batch in (1, 128):
        seconds = latencies(models, SHAPE, batch=batch, repeats=repeats)
        print(f"batch {batch}, {torch.get_num_threads()} threads")
        for name, value in seconds.items():
            faster = seconds["dense"] / value
            print(f"  {name:24} {100 * left[name]:5.1f} % of MACs {1000 * value:8.2f} ms {faster:5.2f} x")


if __name__ == "__main__":
    main()
