"""Compare pyautoattack's speed with attack.engine=fast on small robust networks.

Run: python -m benchmarks autoattack_small

The default network on digits, dense and without 90 % of its weights, in both norms: there an
evaluation is the arithmetic of images that stand. Both engines take turns, with all their steps.
"""

import copy
import sys
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.logits import kl
from advprune.masks import prunable
from advprune.models.small_cnn import small_cnn
from advprune.objectives.trades import trades
from advprune.pruners.layouts.ranked import global_
from advprune.surgery.subnet import Subnet, apply
from advprune.threat import L2, Linf, Threat
from benchmarks._digits import PIXELS, digits, fitted, images
from benchmarks._turns import place
from benchmarks.autoattack import attacked

IMAGES, BATCH = 200, 100
BALLS: tuple[Threat, ...] = (Linf(0.15), L2(0.5))
TRADES = partial(trades, attack=partial(pgd, threat=Linf(0.15), steps=7, loss=kl, start="gaussian"))


@cache
def dense() -> nn.Module:
    """Return the default network, trained by TRADES."""
    torch.manual_seed(0)
    return fitted(small_cnn(widths=[24, 48, 48], **PIXELS), TRADES, *digits()[0])


@cache
def pruned() -> nn.Module:
    """Return the same without the smallest nine tenths of its weights, fine-tuned."""
    net = copy.deepcopy(dense()).requires_grad_(True)
    masks = global_({name: weight.detach().abs() for name, weight in prunable(net).items()}, 0.9)
    fitted(Subnet(net, masks), TRADES, *digits()[0])
    apply(net, masks)
    return net.eval().requires_grad_(False)


def compared(net: nn.Module, threat: Threat) -> dict[str, Any]:
    """Time both engines in turns, batch by batch, and compare their verdicts."""
    x, y = images(IMAGES)
    seconds, right = {"theirs": 0.0, "ours": 0.0}, {"theirs": [], "ours": []}
    parts: list[tuple[Tensor, Tensor]] = [*zip(x.split(BATCH), y.split(BATCH), strict=True)]
    for some, labels in parts:
        for name, engine in (("theirs", None), ("ours", "fast")):
            took, flags = attacked(net, some, labels, threat, engine)
            seconds[name] += took
            right[name] += flags.tolist()
    equal = sum(a == b for a, b in zip(right["theirs"], right["ours"], strict=True))
    robust = {name: sum(flags) / IMAGES for name, flags in right.items()}
    return {"seconds": seconds, "equal": equal / IMAGES, "robust": robust}


def run() -> list[dict[str, Any]]:
    """Return a row for each network and norm: how many times faster."""
    rows = []
    for name, make in (("small_cnn", dense), ("small_cnn pruned at 0.9", pruned)):
        for threat in BALLS:
            found = compared(make(), threat)
            ball = f"{threat.norm} {threat.eps}"
            what = f"AutoAttack, robust {name}, digits, {ball}, {IMAGES} images; {place()}"
            print(f"  {what}: {found}", file=sys.stderr, flush=True)
            faster = found["seconds"]["theirs"] / found["seconds"]["ours"]
            measured = f"{faster:.2f}x; {found['equal']:.1%} of the verdicts equal"
            rows.append(
                {"what": what, "against": "pyautoattack", "bar": ">= 3", "measured": measured}
            )
    return rows
