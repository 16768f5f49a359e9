"""Compare the verdicts of attack.engine=fast with those of pyautoattack's seeds, by image.

Run: python -m benchmarks.autoattack_agreement --to agreement.jsonl

Networks of digits and MNIST with 1,000 images in both norms, at radii where some images fall and
some do not: for an image near the boundary falls by chance, and how far pyautoattack agrees with
itself is what can be asked of another engine; of two seeds that is one draw, so ``--seeds 6`` takes
more of both engines. Each attack is a line of the file, and one that is
there is not run again, so a run that is killed goes on; the table is made of the file. ``--named``
chooses networks, also those of CIFAR-10, where an image that stands takes up to two minutes.
"""

import argparse
import itertools
import json
import operator
import statistics
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advprune.quantizers.calibrate import calibrate
from advprune.quantizers.prepare import quantize
from advprune.quantizers.variants import Quantized
from advprune.threat import L2, Linf
from benchmarks import _digits, _small_networks
from benchmarks._turns import DEVICE, clock
from benchmarks.autoattack import attacked, images, natural, pruned, robust

ENGINES = ("pyautoattack", "fast")


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
#: Radii at which about a quarter of the images stand.
SMALL = {
    "small_cnn TRADES": Case(partial(_small_networks.zoo, "dense"), _digits.images, 0.28, 1.0),
    "small_cnn HYDRA 0.9": Case(
        partial(_small_networks.zoo, "hydra-0.9"), _digits.images, 0.27, 1.0
    ),
    "small_cnn HYDRA 0.99": Case(
        partial(_small_networks.zoo, "hydra-0.99"), _digits.images, 0.25, 0.9
    ),
    "small_cnn natural": Case(_small_networks.natural, _digits.images, 0.13, 0.6),
    "ResNet-8 TRADES": Case(_digits.robust, _digits.images, 0.22, 1.0),
    "MNIST cnn_small TRADES": Case(
        _small_networks.mnist_dense, _small_networks.mnist_images, 0.27, 2.0
    ),
}
CIFAR10 = {
    "ResNet-18 robust": Case(robust, images, 1 / 255, 0.1),
    "ResNet-20 natural": Case(natural, images, 1 / 255, 0.1),
    "ResNet-20 pruned": Case(pruned, images, 1 / 255, 0.1),
    "ResNet-20 int8": Case(int8, images, 1 / 255, 0.1),
}
CASES = SMALL | DIGITS | CIFAR10


@dataclass(frozen=True)
class Attack:
    """One attack of the comparison; ``weights`` is a sum over the network's, to know it again."""

    network: str
    norm: str
    eps: float
    images: int
    engine: str
    seed: int
    weights: int


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


def attacks(name: str, case: Case, norm: str, count: int, seeds: int) -> list[Attack]:
    """Return the attacks of both engines on a network in a norm."""
    state = case.make().state_dict().values()
    weights = zlib.crc32(b"".join(t.cpu().contiguous().numpy().tobytes() for t in state))
    eps = case.linf if norm == "linf" else case.l2
    every = itertools.product(range(seeds), ENGINES)
    return [Attack(name, norm, eps, count, engine, seed, weights) for seed, engine in every]


def lines(path: Path) -> dict[Attack, dict[str, Any]]:
    """Return what the file holds: of each attack its ``seconds``, and ``right`` as 0 and 1."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        values = json.loads(line)
        results = {name: values.pop(name) for name in ("seconds", "right")}
        found[Attack(**values)] = results
    return found


def complete(path: Path, wanted: list[tuple[str, Case, str, int, int]]) -> None:
    """Run the attacks that the file lacks: (name, network, norm, images, seeds) each."""
    for name, case, norm, count, seeds in wanted:
        done = lines(path)
        for attack in attacks(name, case, norm, count, seeds):
            if attack in done:
                continue
            engine, start = "fast" if attack.engine == "fast" else None, clock()
            right = verdicts(case, norm, count, engine, seed=attack.seed)
            results = {
                "seconds": round(clock() - start, 1),
                "right": "".join(str(int(flag)) for flag in right.tolist()),
            }
            with path.open("a") as file:
                file.write(json.dumps(asdict(attack) | results) + "\n")
            print(f"{attack}: {results['seconds']} s", file=sys.stderr, flush=True)


def table(path: Path) -> Iterator[str]:
    """Yield the lines of a Markdown table of the networks that both engines attacked."""
    yield "| network | norm, radius | images | robust, mean of the seeds: fast; pyautoattack | " + (
        "verdicts unlike each other: fast and pyautoattack; pyautoattack and itself |"
    )
    yield "|---|---|---|---|---|"
    groups: dict[Attack, dict[str, list[str]]] = {}
    for attack, results in lines(path).items():
        group = replace(attack, engine="", seed=0)
        flags = groups.setdefault(group, {engine: [] for engine in ENGINES})
        flags[attack.engine].append(results["right"])
    for group, flags in groups.items():
        theirs, ours = (flags[engine] for engine in ENGINES)
        if ours and len(theirs) > 1:
            yield (
                f"| {group.network} | {group.norm} {group.eps:g} | {group.images} | "
                f"{_shares(ours)}; {_shares(theirs)} | {_unlike(itertools.product(ours, theirs))}; "
                f"{_unlike(itertools.combinations(theirs, 2))} |"
            )


def _shares(seeds: list[str]) -> str:
    """Return the mean percentage of images that are right, and the range over the seeds."""
    shares = [100 * right.count("1") / len(right) for right in seeds]
    mean = f"{statistics.mean(shares):.2f}%"
    return mean if len(shares) == 1 else f"{mean} ({min(shares):.1f} to {max(shares):.1f})"


def _unlike(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the mean share of images on which the two of a pair differ."""
    shares = [sum(map(operator.ne, *pair)) / len(pair[0]) for pair in pairs]
    return f"{statistics.mean(shares):.2%} ({len(shares)} pair{'s' * (len(shares) > 1)})"


def run(count: int = 400) -> list[dict[str, Any]]:
    """Return a row for each network and norm: how far fast is from two seeds of pyautoattack."""
    rows = []
    for name, case in DIGITS.items():
        for norm in ("linf", "l2"):
            theirs, ours = verdicts(case, norm, count), verdicts(case, norm, count, "fast")
            again = verdicts(case, norm, count, seed=1)
            apart = (_mean(theirs != ours) + _mean(again != ours)) / 2
            robust = f"robust {_mean(ours):.1%}, theirs {_mean(theirs):.1%}, {_mean(again):.1%}"
            rows.append(
                {
                    "what": f"verdicts unlike pyautoattack's, {name}, {norm}, {count} images",
                    "against": f"its two seeds, of each other: {_mean(theirs != again):.1%}",
                    "bar": "as near, not 0.2 points more robust",
                    "measured": f"{apart:.1%}; {robust}",
                }
            )
    return rows


def _mean(flags: Tensor) -> float:
    return float(flags.float().mean())


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, required=True, help="the file of the attacks")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2, help="of each engine")
    parser.add_argument("--norms", nargs="+", default=["linf", "l2"], choices=["linf", "l2"])
    parser.add_argument(
        "--named", nargs="+", default=list(SMALL), choices=list(CASES), metavar="NAME"
    )
    for norm in ("linf", "l2"):
        parser.add_argument(f"--{norm}", type=float, help="radius in place of the networks' own")
    options = parser.parse_args()
    radii = {norm: getattr(options, norm) for norm in ("linf", "l2") if getattr(options, norm)}
    cases = {name: replace(CASES[name], **radii) for name in options.named}
    wanted = [
        (name, case, norm, options.images, options.seeds)
        for name, case in cases.items()
        for norm in options.norms
    ]
    complete(options.to, wanted)
    print(*table(options.to), sep="\n")


if __name__ == "__main__":
    main()
