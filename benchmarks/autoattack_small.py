"""Compare pyautoattack's speed with attack.engine=fast on small robust networks.

Run: python -m benchmarks autoattack_small, or python -m benchmarks.autoattack_small --named NAME …

Networks of digits and MNIST, dense and pruned, in both norms: there an evaluation is the arithmetic
of images that stand. Both engines take turns, with all their steps.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from advprune.runtime import speed
from advprune.threat import L2, Threat
from benchmarks import _digits, _small_networks
from benchmarks._small_networks import DIGITS, FILES, MNIST
from benchmarks._turns import place
from benchmarks.autoattack import attacked

BATCH = 100


@dataclass(frozen=True)
class Case:
    """A network, its images, and the ball."""

    make: Callable[[], nn.Module]
    images: Callable[[int], tuple[Tensor, Tensor]]
    threat: Threat


def cases() -> dict[str, Case]:
    """Return the networks in both norms; those of MNIST where its files are."""
    networks = {
        "digits small_cnn": partial(_small_networks.zoo, "dense"),
        "digits small_cnn HYDRA 0.9": partial(_small_networks.zoo, "hydra-0.9"),
        "digits small_cnn HYDRA 0.99": partial(_small_networks.zoo, "hydra-0.99"),
    }
    there = {"MNIST cnn_small": _small_networks.mnist_dense} if FILES.is_dir() else {}
    if there:
        there["MNIST cnn_small HYDRA 0.9"] = partial(_small_networks.mnist_hydra, 0.9)
    balls: tuple[tuple[Threat, Threat], ...] = ((DIGITS, MNIST), (L2(0.5), L2(1.0)))
    return {
        f"{name}, {threat.norm} {threat.eps:g}": Case(make, images, threat)
        for each in balls
        for images, group, threat in zip(
            (_digits.images, _small_networks.mnist_images), (networks, there), each, strict=True
        )
        for name, make in group.items()
    }


def compared(case: Case, count: int) -> dict[str, Any]:
    """Time both engines in turns, batch by batch, on ``count`` images, and compare verdicts."""
    x, y = case.images(count)
    net = case.make()
    seconds, right = {"theirs": 0.0, "ours": 0.0}, {"theirs": [], "ours": []}
    parts: list[tuple[Tensor, Tensor]] = [*zip(x.split(BATCH), y.split(BATCH), strict=True)]
    for some, labels in parts:
        for name, engine in (("theirs", None), ("ours", "fast")):
            took, flags = attacked(net, some, labels, case.threat, engine)
            seconds[name] += took
            right[name] += flags.tolist()
    equal = sum(a == b for a, b in zip(right["theirs"], right["ours"], strict=True))
    robust = {name: sum(flags) / count for name, flags in right.items()}
    return {"seconds": seconds, "equal": equal / count, "robust": robust}


def run(count: int = 200, named: str = "") -> list[dict[str, Any]]:
    """Return a row for each network and norm: how many times faster.

    Args:
        count: images.
        named: how the names of the cases begin.
    """
    speed.keep_freed_memory()  # as every command does
    rows = []
    for name, case in cases().items():
        if not name.startswith(named):
            continue
        found = compared(case, count)
        what = f"AutoAttack, robust {name}, {count} images; {place()}"
        print(f"  {what}: {found}", file=sys.stderr, flush=True)
        faster = found["seconds"]["theirs"] / found["seconds"]["ours"]
        measured = f"{faster:.2f}x; {found['equal']:.1%} of the verdicts equal"
        rows.append({"what": what, "against": "pyautoattack", "bar": ">= 3", "measured": measured})
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument(
        "--named", default="", help='how names begin: MNIST, "digits small_cnn, l2"'
    )
    options = parser.parse_args()
    run(options.images, options.named)
