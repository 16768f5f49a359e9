"""Compare pyautoattack's speed with attack.engine=fast: python -m benchmarks.autoattack.

Options: ``--whole``, ``--images N``, ``--minutes M``, ``--named "robust ResNet-18, 1/255"``,
``--precision fp32`` or ``bf16`` of the fast engine's search. Both engines take turns in one
process, each part on the images that the parts before it left; what is compared is the seconds
that ``_turns.clock`` counts.

pyautoattack's adversarially trained ResNet-18 loses every image at 8/255 in a few steps, so there
it is a natural network; at 1/255 many images stand, and then speed is arithmetic. An image that
stands costs pyautoattack two minutes of a CPU core, so there both engines are given a tenth of
their steps and queries: every part costs a tenth, and their proportions stay. That is to our
disadvantage, for an image that falls at step 3 leaves early by 7 steps and not by 97. ``--whole``
takes all steps, as a GPU does.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyautoattack
import torch
from torch import Tensor, nn

from advprune.attacks import autoattack as adapter
from advprune.attacks.fast import apgd, fab, square
from advprune.masks import prunable
from advprune.models import foreign
from advprune.models.cifar_resnet import CifarResNet
from advprune.models.resnet import ResNet
from advprune.pruners.layouts.ranked import global_
from advprune.surgery.subnet import apply
from advprune.threat import Linf, Threat
from benchmarks._turns import DEVICE, clock, place

SHARED = Path(os.environ.get("ADVPRUNE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
WEIGHTS = Path(pyautoattack.__file__).parent / "examples" / "model_test.pt"
EPS = 8 / 255
#: Of the robust network's images many stand here; at 8/255 none does.
STANDING = 1 / 255


@cache
def images(count: int) -> tuple[Tensor, Tensor]:
    """Return training images of CIFAR-10, lossless."""
    with np.load(SHARED / "data" / "cifar10_train_4k.npz") as file:
        x = torch.from_numpy(file["images"][:count]).permute(0, 3, 1, 2).float() / 255
        return x.contiguous().to(DEVICE), torch.from_numpy(file["labels"][:count]).long().to(DEVICE)


def robust() -> nn.Module:
    """Return the adversarially trained ResNet-18 that is part of pyautoattack."""
    model = ResNet(
        depth=18,
        width=64,
        num_classes=10,
        in_channels=3,
        image_size=32,
        mean=[0.0] * 3,
        std=[1.0] * 3,
    )
    foreign.load(model, WEIGHTS)
    return model.eval().requires_grad_(False).to(DEVICE)


def natural() -> nn.Module:
    """Return the shared ResNet-20."""
    constants = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    model = CifarResNet(
        depth=20, width=16, shortcut="A", num_classes=10, in_channels=3, image_size=32, **constants
    )
    foreign.load(model, SHARED / "weights" / "resnet20-12fca82f.th")
    return model.eval().requires_grad_(False).to(DEVICE)


def pruned() -> nn.Module:
    """Return the shared ResNet-20, pruned."""
    return halved(natural())


def halved(model: nn.Module) -> nn.Module:
    """Return ``model`` itself, without the smaller half of its weights."""
    apply(
        model,
        global_({name: weight.detach().abs() for name, weight in prunable(model).items()}, 0.5),
    )
    return model


@contextmanager
def cut(share: float) -> Iterator[None]:
    """Run both engines with a share of their steps and queries."""
    original = adapter.official_package

    def package(*args: Any) -> pyautoattack.AutoAttack:
        attack = original(*args)
        attack.apgd.n_iter = attack.apgd_targeted.n_iter = attack.fab.n_iter = round(100 * share)
        attack.square.n_queries = round(5000 * share)
        return attack

    with ExitStack() as stack:
        if share < 1:
            stack.enter_context(patch.object(adapter, "official_package", package))
            for module in (apgd, fab):
                stack.enter_context(patch.object(module, "STEPS", round(100 * share)))
            stack.enter_context(patch.object(square, "QUERIES", round(5000 * share)))
        yield


def attacked(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, engine: Any, **options: Any
) -> tuple[float, Tensor]:
    """Return the seconds of an attack, and which images are still right."""
    trail: list[tuple[str, Tensor]] = []
    start = clock()
    adapter.autoattack(model, x, y, threat=threat, engine=engine, trail=trail, **options)
    return clock() - start, trail[-1][1]


def ratio(
    model: nn.Module,
    count: int,
    share: float,
    eps: float,
    batch: int,
    limit: float = math.inf,
    precision: str | None = None,
) -> dict[str, Any]:
    """Time both engines in turns, batch by batch, until pyautoattack has had ``limit`` seconds."""
    x, y = images(count)
    seconds, equal, right, done = {"theirs": 0.0, "ours": 0.0}, 0, {"theirs": 0, "ours": 0}, 0
    with cut(share):
        while done < count and seconds["theirs"] < limit:
            part = slice(done, min(done + batch, count))
            flags = {}
            for name, options in (
                ("theirs", {"engine": None}),
                ("ours", {"engine": "fast", "precision": precision}),
            ):
                took, flags[name] = attacked(model, x[part], y[part], Linf(eps), **options)
                seconds[name] += took
                right[name] += int(flags[name].sum())
            equal += int((flags["theirs"] == flags["ours"]).sum())
            done = part.stop
    faster = seconds["theirs"] / seconds["ours"]
    return {
        "ratio": faster,
        "images": done,
        "equal": equal / done,
        "seconds": seconds,
        "right": right,
    }


def peak(engine: str, batch: int = 256) -> float:
    """Return the GiB that two steps of APGD on one batch need, on a CPU in a fresh process."""
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        _two_steps(engine, batch)
        return torch.cuda.max_memory_allocated() / 2**30
    command = [
        sys.executable,
        "-m",
        "benchmarks.autoattack",
        "--peak",
        engine,
        "--images",
        str(batch),
    ]
    root = Path(__file__).resolve().parents[1]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout
    )


def _two_steps(engine: str, batch: int) -> None:
    x, y = images(batch)
    options: dict[str, Any] = {"version": "custom", "attacks": ["apgd-ce"]}
    with cut(0.02):
        attacked(robust(), x, y, Linf(EPS), "fast" if engine == "fast" else None, **options)


def run(
    count: int | None = None,
    share: float | None = None,
    minutes: float = math.inf,
    named: str = "",
    precision: str | None = None,
) -> list[dict[str, Any]]:
    """Return rows: how many times faster, and the share of memory.

    Args:
        count: images of each network; None is a number that fits the device.
        share: of the steps and queries; None is all on a GPU and a tenth on a CPU.
        minutes: that pyautoattack may take for a network.
        named: how the names of the rows begin; "" is all, and the row of the memory.
        precision: of the fast engine's search; None is the fastest on the device.
    """
    if not (SHARED / "data").is_dir():
        return [
            {
                "what": "AutoAttack",
                "against": "pyautoattack",
                "bar": "",
                "measured": f"not run: no {SHARED}/data",
            }
        ]
    gpu = DEVICE == "cuda"
    share = share or (1.0 if gpu else 0.1)
    rows = []
    many, few = (count or 1000, count or 1000) if gpu else (count or 32, count or 6)
    for name, make, number, eps, steps, bar in (
        ("robust ResNet-18, 1/255", robust, few, STANDING, share, 3 if gpu else 2),
        ("robust ResNet-18, 8/255", robust, few, EPS, 1.0, 3 if gpu else 2),
        ("natural ResNet-20, 8/255", natural, many, EPS, 1.0, 10),
        ("ResNet-20 half pruned, 8/255", pruned, many, EPS, 1.0, 10),
    ):
        if not name.startswith(named):
            continue
        measured = ratio(
            make(), number, steps, eps, 250 if gpu else 32, 60 * minutes, precision=precision
        )
        what = (
            f"AutoAttack, {name}, {measured['images']} images, {steps:.0%} of the steps, search in "
            f"{precision or 'the fastest precision'}; {place()}"
        )
        rows.append(
            {
                "what": what,
                "against": "pyautoattack",
                "bar": f">= {bar}",
                "measured": measured["ratio"],
            }
        )
        print(f"  {what}: {measured}", file=sys.stderr, flush=True)
    if named:
        return rows
    batch = 256
    memory = peak("fast", batch) / peak("reference", batch)
    what = f"peak memory of AutoAttack's gradients, robust ResNet-18, batch {batch}; {place()}"
    return [*rows, {"what": what, "against": "pyautoattack", "bar": "<= 1", "measured": memory}]


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int)
    parser.add_argument("--whole", action="store_true", help="all steps and queries, also on a CPU")
    parser.add_argument("--peak", help="an engine; print the GiB of this process")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="that pyautoattack may take for a network"
    )
    parser.add_argument("--named", default="", help="how the names of the rows begin")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="of the search")
    options = parser.parse_args()
    if options.peak:
        _two_steps(options.peak, options.images)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return
    share = 1.0 if options.whole else None
    chosen = (options.named, options.precision)
    for row in run(options.images, share, options.minutes, *chosen):
        print(
            f"{row['what']:90} {row['measured']:>8.3g}   bar {row['bar']}   "
            f"against {row['against']}"
        )


if __name__ == "__main__":
    main()
