"""Compare ResNet-56 without half of its MACs with the dense one on a CPU.

OMP_NUM_THREADS=2 python -m benchmarks shrunk_speed
Filters (of every layer alike, and kept to multiples of 8) and blocks; measured in turns, medians.
Filters save less time than MACs: 8 channels fill half of a vector of 16, and what adds and
normalises stays as it was.
"""

import copy
from typing import Any

import torch
from torch import nn

from advprune.models.cifar_resnet import CifarResNet
from advprune.models.find_sites import block_sites, filter_sites
from advprune.pruners import blocks, filters
from advprune.pruners.criteria.l1 import l1
from advprune.surgery.budget import dense
from advprune.surgery.measure import latencies
from advprune.surgery.structure import Structure, shrink
from benchmarks._turns import CIFAR

SHAPE = (3, 32, 32)
RATIO = 0.5


def networks() -> tuple[dict[str, nn.Module], dict[str, float]]:
    """Return the dense network and smaller ones, and the share of its MACs that each has."""
    torch.manual_seed(0)
    net = CifarResNet(depth=56, **CIFAR).eval()
    whole = dense(net, filter_sites(net), block_sites(net), SHAPE)
    scores = l1(net, [], sites=whole.filters)
    models: dict[str, nn.Module] = {"dense": net}
    left = {"dense": 1.0}
    for multiple in (1, 8):
        kept = filters.choose(
            scores,
            RATIO,
            scope="layer",
            original=whole.widths,
            round_to=multiple,
            share=lambda removed: whole.share("macs", removed, []),
        )
        name = "filters" if multiple == 1 else f"filters, multiples of {multiple}"
        models[name] = shrink(
            copy.deepcopy(net), Structure(kept, [], {}), groups=whole.groups, sites=whole.blocks
        )
        removed = {site: width - len(kept[site]) for site, width in whole.widths.items()}
        left[name] = 1 - whole.share("macs", removed, [])
    gone = blocks.choose(
        l1(net, [], sites=whole.blocks),
        RATIO,
        sites=whole.blocks,
        share=lambda names: whole.share("macs", {}, names),
    )
    models["blocks"] = shrink(
        copy.deepcopy(net), Structure({}, gone, {}), groups=whole.groups, sites=whole.blocks
    )
    left["blocks"] = 1 - whole.share("macs", {}, gone)
    return models, left


def run(repeats: int = 15) -> list[dict[str, Any]]:
    """Return one row for each smaller network and batch size."""
    models, left = networks()
    rows = []
    for batch in (1, 128):
        seconds = latencies(models, SHAPE, batch=batch, repeats=repeats)
        for name in models:
            if name != "dense":
                what = f"ResNet-56, {name}: {100 * left[name]:.0f} % of the MACs, batch {batch}"
                against = (
                    f"dense: {1000 * seconds['dense']:.3g} ms, {torch.get_num_threads()} threads"
                )
                faster = seconds["dense"] / seconds[name]
                bar = ">= 1.6x" if batch == 128 else "none"
                rows.append(
                    {"what": what, "against": against, "bar": bar, "measured": f"{faster:.2f}x"}
                )
    return rows


if __name__ == "__main__":
    for row in run():
        print(
            f"{row['what']:72} {row['measured']:>8}   bar {row['bar']}   against {row['against']}"
        )
