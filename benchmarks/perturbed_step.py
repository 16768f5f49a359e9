"""Time AWP's step against the plain one: python -m benchmarks perturbed_step

TRADES-10 and PGD-10 on ResNet-18, one batch, optimizer included, taken in turns. A perturbed step
takes the loss and its gradient once more, and no attack: of a PGD-10 step, 11 forwards and 11
backwards, one of which reaches the weights, that is one more of each. TRADES takes two forwards in
a loss, and predicts the clean images once more, for its attack. With a backward to the weights as
dear as two forwards that makes 26/23 = 1.13 for PGD and 34/27 = 1.26 for TRADES.

``ADVPRUNE_BATCH`` and ``ADVPRUNE_ROUNDS`` set the batch and the rounds.
"""

import os
import resource
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.distributed.environment import Trainer
from advprune.logits import kl
from advprune.models.resnet import ResNet
from advprune.modules.memory_layout import optimized_layout
from advprune.modules.perturb import Perturbation, targets_of
from advprune.modules.recipe import Perturbed
from advprune.objectives.adversarial import adversarial
from advprune.objectives.trades import trades
from advprune.runtime import speed
from advprune.threat import Linf
from benchmarks._turns import CIFAR, DEVICE, in_turns, place

BATCH = int(os.environ.get("ADVPRUNE_BATCH", "64"))
ROUNDS = int(os.environ.get("ADVPRUNE_ROUNDS", "20" if DEVICE == "cuda" else "2"))
ATTACK = partial(pgd, threat=Linf(8 / 255), steps=10, rel_step=0.25)
OBJECTIVES = {
    "TRADES-10": partial(trades, attack=partial(ATTACK, loss=kl, start="gaussian")),
    "PGD-10": partial(adversarial, attack=ATTACK),
}
BARS = {"TRADES-10": "<= 1.15x", "PGD-10": "none"}


def step_of(net: nn.Module, objective: Any, gamma: float | None) -> Callable[[], None]:
    """Return a training step, perturbed unless ``gamma`` is None."""
    x = torch.rand(BATCH, 3, 32, 32, device=DEVICE)
    y = torch.randint(10, (BATCH,), device=DEVICE)
    steps = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
    perturbation = Perturbation(gamma or 0.0)

    def evaluate(goal: Any) -> Tensor:
        return goal(net, x, y, progress=0.0)

    def call() -> None:
        net.train()
        if gamma is None:
            loss = evaluate(objective)
        else:
            targets = targets_of(net, Perturbed.weights)
            loss = perturbation.loss(evaluate, objective, net, targets, lambda: None)
        steps.zero_grad()
        loss.backward()
        perturbation.restore()
        steps.step()

    return call


def resnet18() -> nn.Module:
    """Return a ResNet-18 with the same weights each time."""
    torch.manual_seed(0)
    return ResNet(**CIFAR).to(DEVICE)


def peak_of(call: Callable[[], None]) -> float:
    """Return the largest memory in GiB up to the end of a call: the device's, or the process's."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    call()
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def row(what: str, against: float, measured: float, bar: str, unit: str) -> dict[str, Any]:
    """Return a row of the table: a ratio, and what it is one of."""
    return {
        "what": f"{what}, ResNet-18, batch {BATCH}, {place()}",
        "against": "the plain step",
        "bar": bar,
        "measured": f"{measured / against:.3f}x ({against:.3g} {unit} to {measured:.3g} {unit})",
    }


def compare(name: str) -> list[dict[str, Any]]:
    """Return the rows of one objective: time and memory of AWP's step over the plain one's."""
    nets = {"plain": resnet18(), "AWP": resnet18()}
    trainer = Trainer()
    with optimized_layout(nets["plain"], trainer, 32), optimized_layout(nets["AWP"], trainer, 32):
        steps = {
            "plain": step_of(nets["plain"], OBJECTIVES[name], None),
            "AWP": step_of(nets["AWP"], OBJECTIVES[name], 0.005),
        }
        step_of(nets["AWP"], OBJECTIVES[name], None)()  # gradients and momentum of both are there
        peaks = {kind: peak_of(step) for kind, step in steps.items()}  # the plain one comes first
        turns = in_turns(steps, ROUNDS)
    taken = {kind: statistics.median(seconds) for kind, seconds in turns.items()}
    return [
        row(f"AWP's step, {name}", taken["plain"], taken["AWP"], BARS[name], "s"),
        row(f"its peak memory, {name}", peaks["plain"], peaks["AWP"], "<= 1.1x", "GiB"),
    ]


def run() -> list[dict[str, Any]]:
    """Return the rows of both objectives."""
    speed.keep_freed_memory()
    return [line for name in OBJECTIVES for line in compare(name)]


if __name__ == "__main__":
    for line in run():
        print(*(f"{key}: {value}" for key, value in line.items()), sep="\n  ")
