"""Compare GAP's gradient pass with its forwards and backwards: python -m benchmarks.gap_gradient

Counted alone is what cannot be left out: ten forwards and backwards to the pixels, one forward and
backward to the weights, on the same batches, and nothing else. The pass adds the steps, the
projections and the summing.
"""

import statistics
from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.models.cifar_resnet import CifarResNet
from advprune.pruners.eligible import eligible
from advprune.pruners.gradient import gradient
from advprune.threat import Linf
from benchmarks._turns import CIFAR, DEVICE, in_turns, place

STEPS, IMAGES, BATCH, REPEATS = 10, 256, 128, 5
BAR = 1.1
Batches = list[tuple[Tensor, Tensor]]


def gap(model: nn.Module, batches: Batches) -> None:
    """Compute the criterion, as conf/pruner/gap.yaml binds it."""
    attack = partial(pgd, threat=Linf("8/255"), steps=STEPS, rel_step=0.25)
    gradient(
        model,
        batches,
        score="signed",
        attack=attack,
        eligible=partial(eligible, biases=True, classifier=False),
    )


def alone(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Run its forwards and backwards and do nothing with them."""
    weights = list(eligible(model, biases=True, classifier=False).values())
    for x, y in batches:
        model.requires_grad_(False)
        pixels = x.clone().requires_grad_(True)
        for _ in range(STEPS):
            torch.autograd.grad(F.cross_entropy(model(pixels), y, reduction="sum"), pixels)
        model.requires_grad_(True)
        torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), weights)


def run() -> list[dict[str, str]]:
    """Return the median ratio of passes taken in turns, each against the one beside it."""
    torch.manual_seed(0)
    model = CifarResNet(**CIFAR, depth=20).eval().to(DEVICE)
    batches = [
        (torch.rand(BATCH, 3, 32, 32, device=DEVICE), torch.randint(10, (BATCH,), device=DEVICE))
        for _ in range(IMAGES // BATCH)
    ]
    calls = {"pass": partial(gap, model, batches), "alone": partial(alone, model, batches)}
    pairs = list(zip(*in_turns(calls, REPEATS).values(), strict=True))
    return [
        {
            "what": f"GAP's gradient pass, ResNet-20, {IMAGES} images, PGD-{STEPS}, {place()}",
            "against": "its forwards and backwards alone: "
            f"{statistics.median(b for _, b in pairs):.2f} s",
            "bar": f"<= {BAR} x",
            "measured": f"{statistics.median(a / b for a, b in pairs):.3f} x, "
            f"{statistics.median(a for a, _ in pairs):.2f} s",
        }
    ]


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
