"""Time a training step of ResNet-18 and HYDRA's mask search: python -m benchmarks training_step

Ours against the authors' step rendered literally (``trades_step.py``, ``mask_search_step.py``),
optimizer included, their network as torch makes it: fp32 and contiguous, TF32 where the device has
it. Ours is the loop's own code, once as it is by default and once in bf16. Taken in turns in one
process, medians. On a processor the ratio is of the process's own seconds where it has one thread;
with two, threads that wait for each other burn seconds too, and wall time counts.

The share of the matrix rate is that of the multiplications a step of ours needs, counted by torch,
in the device's time for them at the rate measured here for large square matrices in bf16.
``ADVPRUNE_BATCH``, ``ADVPRUNE_ROUNDS`` and ``OMP_NUM_THREADS`` set the batch, the rounds and the
threads; ``ADVPRUNE_COMPILE=default``, or another mode, compiles ours, then measured in bf16 alone.
"""

import os
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from advprune.attacks.pgd import pgd
from advprune.distributed.environment import Trainer
from advprune.logits import kl
from advprune.masks import prunable
from advprune.models.resnet import ResNet
from advprune.objectives.trades import trades
from advprune.pruners.hydra import Hydra
from advprune.pruners.learned_scores import initial_scores
from advprune.pruners.process import Moment
from advprune.pruners.task import Task
from advprune.runtime import speed
from advprune.runtime.speed import autocast
from advprune.stages.training_phase import optimized_layout
from advprune.surgery.subnet import Subnet
from advprune.threat import Linf
from benchmarks._turns import CIFAR, DEVICE, in_turns, place, seconds
from benchmarks.mask_search_step import KEEP, AuthorsConv, AuthorsLinear, authors_masks
from benchmarks.trades_step import literal

BATCH = int(os.environ.get("ADVPRUNE_BATCH", "256" if DEVICE == "cuda" else "64"))
ROUNDS = int(os.environ.get("ADVPRUNE_ROUNDS", "20" if DEVICE == "cuda" else "2"))
TRAINER = Trainer(compile=os.environ.get("ADVPRUNE_COMPILE") or None)  # type: ignore[arg-type]
ATTACK = partial(pgd, threat=Linf(8 / 255), steps=10, rel_step=0.25, loss=kl, start="gaussian")
Step = Callable[[], None]


def optimizer(net: nn.Module, *, ours: bool) -> torch.optim.Optimizer:
    """HYDRA's, over what trains."""
    trained = [p for p in net.parameters() if p.requires_grad]
    fused = True if ours and DEVICE == "cuda" else None
    return torch.optim.SGD(trained, lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=fused)


def theirs(net: nn.Module, x: Tensor, y: Tensor) -> Step:
    """Return the authors' step."""
    steps = optimizer(net, ours=False)

    def call() -> None:
        literal(net, x, y)
        steps.step()

    return call


def ours(net: nn.Module, x: Tensor, y: Tensor, precision: Any) -> Step:
    """Return our step: masks once if there are any, the objective, the optimizer."""
    steps = optimizer(net, ours=True)

    def call() -> None:
        net.train()
        if isinstance(net, Subnet):
            cast(Hydra, net.process).choose(Moment(0, 1, 0, 1))
            net.refresh()
        loss = trades(autocast(net, precision), x, y, progress=0.0, attack=ATTACK)
        steps.zero_grad()
        loss.backward()
        steps.step()

    return call


def resnet18() -> nn.Module:
    """Return a ResNet-18 with the same weights each time."""
    torch.manual_seed(0)
    return ResNet(**CIFAR).to(DEVICE)


def searched(net: nn.Module) -> Subnet:
    """Return our mask search on a network."""
    task = Task(1 - KEEP, authors_masks, tuple(prunable(net)), ratios=(1 - KEEP,))
    process = Hydra(net, task).to(DEVICE)
    process.groups(net)
    return Subnet(net, process=process).to(DEVICE)


def sorting(net: nn.Module) -> nn.Module:
    """Return the authors' mask search: each forward finds each layer's mask anew."""
    scores = initial_scores(prunable(net), init="scaled", seed=0)
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.dim() == 1)  # BatchNorm learns
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.__class__ = AuthorsConv if isinstance(module, nn.Conv2d) else AuthorsLinear
            module.register_parameter("scores", nn.Parameter(scores[f"{name}.weight"].clone()))
    return net


def matrix_rate() -> float:
    """Return the operations a second in products of large square bf16 matrices, at best."""
    side = 8192 if DEVICE == "cuda" else 2048
    a = torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16)

    def call() -> None:
        torch.mm(a, a)

    return 2 * side**3 / min([seconds(call) for _ in range(6)][1:])


def operations(x: Tensor) -> float:
    """Return the operations of our step: a prediction, ten attack steps and two losses."""
    net, one = resnet18(), x[:1].clone()

    def count(call: Callable[[], Any]) -> int:
        with FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops()

    loss = count(lambda: net(one).sum().backward())
    net.eval().requires_grad_(False)
    attack = count(lambda: net(one.requires_grad_()).sum().backward())
    return len(x) * float(count(lambda: net(one.detach())) + 10 * attack + 2 * loss)


def compare(kind: str, make_theirs: Any, make_ours: Any, rate: float) -> list[dict[str, Any]]:
    """Return rows for one kind of step: default and bf16, against the authors'."""
    x = torch.rand(BATCH, 3, 32, 32, device=DEVICE)
    y = torch.randint(10, (BATCH,), device=DEVICE)
    precisions = {"by default": "fp32", "in bf16": "bf16"}
    if TRAINER.compile:
        del precisions["by default"]
    with ExitStack() as layouts:
        calls = dict[str, Step]()
        for name, precision in precisions.items():
            net = make_ours()
            layouts.enter_context(optimized_layout(net, TRAINER, 32))
            calls[name] = ours(net, x, y, precision)
        turns = in_turns({"theirs": theirs(make_theirs(), x, y)} | calls, ROUNDS)
    taken = {name: statistics.median(values) for name, values in turns.items()}
    bar = ">= 5x" if DEVICE == "cuda" else ">= 2x"
    what = f"{kind}, TRADES-10, ResNet-18, batch {BATCH}, {place()}" + (
        f", compiled ({TRAINER.compile})" if TRAINER.compile else ""
    )
    rows = []
    for name in calls:
        faster = taken["theirs"] / taken[name]
        measured = f"{faster:.2f}x ({taken['theirs']:.3g} s to {taken[name]:.3g} s)"
        against = "the authors' loop, rendered"
        rows.append(
            {
                "what": f"{what}, {name}",
                "against": against,
                "bar": bar if name == "in bf16" else "none",
                "measured": measured,
            }
        )
    count = operations(x)
    share = count / rate / taken["in bf16"]
    against = f"{rate / 1e12:.3g} TFLOP/s in bf16 products, measured"
    measured = f"{100 * share:.1f} % of it"
    return [
        *rows,
        {
            "what": f"{what}, in bf16: {count / 1e12:.2f} TFLOP",
            "against": against,
            "bar": "reported",
            "measured": measured,
        },
    ]


def run() -> list[dict[str, Any]]:
    """Return the rows of both kinds of step."""
    speed.keep_freed_memory()
    torch.backends.cudnn.benchmark = True  # as both trainers do
    rate = matrix_rate()
    return [
        *compare("training step", resnet18, resnet18, rate),
        *compare(
            "mask search step", lambda: sorting(resnet18()), lambda: searched(resnet18()), rate
        ),
    ]


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
