"""GAP's gradient pass against its forwards and backwards counted alone. Run: python benchmarks/gap_gradient.py

Counted alone is what cannot be left out: ten forwards and backwards to the pixels, one forward and backward to the
weights, on the same batches, and nothing else. The pass adds the steps, the projections and the summing.
"""

import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.models.cifar_resnet import CifarResNet
from advprune.pruners.eligible import eligible
from advprune.pruners.gradient import gradient
from advprune.threat import Linf

STEPS, IMAGES, BATCH, REPEATS = 10, 256, 128, 5
BAR = 1.1
Batches = list[tuple[Tensor, Tensor]]


def gap(model: nn.Module, batches: Batches) -> None:
    """The criterion, as conf/pruner/gap.yaml binds it."""
    attack = partial(pgd, threat=Linf("8/255"), steps=STEPS, rel_step=0.25)
    gradient(model, batches, score="signed", attack=attack, eligible=partial(eligible, biases=True, classifier=False))


def alone(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Forwards and backwards, nothing done with them."""
    weights = list(eligible(model, biases=True, classifier=False).values())
    for x, y in batches:
        model.requires_grad_(False)
        pixels = x.clone().requires_grad_(True)
        for _ in range(STEPS):
            torch.autograd.grad(F.cross_entropy(model(pixels), y, reduction="sum"), pixels)
        model.requires_grad_(True)
        torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), weights)


def seconds(call: Callable[[nn.Module, Batches], None], model: nn.Module, batches: Batches) -> float:
    """Of one pass."""
    begun = time.perf_counter()
    call(model, batches)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def run() -> list[dict[str, str]]:
    """The median of interleaved passes, each against the one beside it."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = CifarResNet(num_classes=10, in_channels=3, image_size=32, mean=[0.5] * 3, std=[0.25] * 3, depth=20)
    model.eval().to(device)
    batches = [(torch.rand(BATCH, 3, 32, 32, device=device), torch.randint(10, (BATCH,), device=device))
               for _ in range(IMAGES // BATCH)]  # fmt: skip
    for call in (gap, alone):
        seconds(call, model, batches[:1])
    pairs = [(seconds(gap, model, batches), seconds(alone, model, batches)) for _ in range(REPEATS)]
    return [{
        "what": f"GAP's gradient pass, ResNet-20, {IMAGES} images, PGD-{STEPS}, {device}",
        "against": f"its forwards and backwards alone: {statistics.median(b for _, b in pairs):.2f} s",
        "bar": f"<= {BAR} x",
        "measured": f"{statistics.median(a / b for a, b in pairs):.3f} x, "
                    f"{statistics.median(a for a, _ in pairs):.2f} s",
    }]  # fmt: skip


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
