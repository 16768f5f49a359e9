"""Compare the verdicts of attack.engine=fast with pyautoattack's, image by image.

Run: python -m benchmarks.autoattack_agreement

A robust, a natural, a pruned and a fake-quantized network, both norms, at radii where some images
fall and some do not: small ones on 1,000 digits, which takes minutes (``pytest -m slow`` asks 24 of
them); and with ``--images N`` networks of CIFAR-10, where an image that stands takes up to two
minutes. ``--seeds`` also runs pyautoattack with another seed: how far it agrees with itself, for an
image near the boundary falls by chance.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advprune.quantizers.calibrate import calibrate
from advprune.quantizers.prepare import quantize
from advprune.quantizers.variants import Quantized
from advprune.threat import L2, Linf
from benchmarks import _digits
from benchmarks._turns import DEVICE
from benchmarks.autoattack import attacked, images, natural, pruned, robust


def int8() -> nn.Module:
    """Return the shared ResNet-20, fake-quantized as the quantizer stage does it."""
    return fake_quantized(natural(), images(64)[0])


def fake_quantized(net: nn.Module, x: Tensor) -> nn.Module:
    """Return the network with its activations' ranges calibrated on ``x``."""
    twin = net.cpu()
    fake = quantize(twin)
    calibrate(fake, [x.cpu()])
    return Quantized(fake, float_twin=twin, fake_quant=fake).eval().requires_grad_(False).to(DEVICE)


@dataclass(frozen=True)
class Case:
    """A network, its images, and radii at which it loses some of them and not all."""

    make: Callable[[], nn.Module]
    images: Callable[[int], tuple[Tensor, Tensor]]
    linf: float
    l2: float


#: Radii at which about one image of ten stands: those take most of the time.
DIGITS = {
    "digits robust": Case(_digits.robust, _digits.images, 0.15, 0.8),
    "digits natural": Case(_digits.natural, _digits.images, 0.12, 0.6),
    "digits pruned": Case(_digits.pruned, _digits.images, 0.15, 0.8),
    "digits int8": Case(
        lambda: fake_quantized(_digits.natural(), _digits.digits()[0][0]), _digits.images, 0.15, 0.6
    ),
}
CIFAR10 = {
    "ResNet-18 robust": Case(robust, images, 1 / 255, 0.1),
    "ResNet-20 natural": Case(natural, images, 1 / 255, 0.1),
    "ResNet-20 pruned": Case(pruned, images, 1 / 255, 0.1),
    "ResNet-20 int8": Case(int8, images, 1 / 255, 0.1),
}


def verdicts(
    case: Case, norm: str, count: int, engine: Any = None, *, seed: int = 0, batch: int = 1000
) -> Tensor:
    """Return which of ``count`` images are still right after all of AutoAttack, (count,) bool.

    Args:
        case: the network.
        norm: ``linf`` or ``l2``.
        count: number of images.
        engine: None is pyautoattack, "fast" is ours.
        seed: of the attack.
        batch: images attacked at once.
    """
    model, threat = case.make(), Linf(case.linf) if norm == "linf" else L2(case.l2)
    x, y = case.images(count)
    parts = zip(x.split(batch), y.split(batch), strict=True)
    return torch.cat(
        [attacked(model, some, labels, threat, engine, seed=seed)[1] for some, labels in parts]
    )


def run(count: int = 0, repeat: bool = False, named: str = "") -> list[dict[str, Any]]:
    """Return a row for each network and norm.

    Args:
        count: images of CIFAR-10; 0 leaves its networks out.
        repeat: also run pyautoattack with another seed, against itself.
        named: how the names of the networks begin.
    """
    measure = [(name, case, 1000) for name, case in DIGITS.items()]
    measure += [(name, case, count) for name, case in CIFAR10.items() if count]
    rows = []
    for name, case, number in measure:
        for norm in ("linf", "l2") if name.startswith(named) else ():
            theirs, ours = (verdicts(case, norm, number, engine) for engine in (None, "fast"))
            measured = (
                f"{_mean(theirs == ours):.1%}; robust {_mean(ours):.1%}, theirs {_mean(theirs):.1%}"
            )
            if repeat:
                repeated = verdicts(case, norm, number, seed=1)
                measured += f"; theirs and itself {_mean(theirs == repeated):.1%}"
            what = f"verdicts, {name}, {norm}, {number} images"
            rows.append(
                {
                    "what": what,
                    "against": "pyautoattack",
                    "bar": ">= 99.5 %, not 0.2 above",
                    "measured": measured,
                }
            )
            print(f"{what:60} {measured}", file=sys.stderr, flush=True)
    return rows


def _mean(flags: Tensor) -> float:
    return float(flags.float().mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=0, help="of CIFAR-10, which lie in ../shared")
    parser.add_argument("--seeds", action="store_true", help="pyautoattack against itself too")
    parser.add_argument(
        "--named", default="", help='how the names of networks begin: digits, "ResNet-20 natural"'
    )
    options = parser.parse_args()
    run(options.images, options.seeds, options.named)
