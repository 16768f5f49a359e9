"""Training steps with processes and perturbations, as ``modules/pruner_training.py`` takes them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.distributed.environment import Trainer
from advprune.logits import kl
from advprune.masks import prunable
from advprune.modules.perturb import Perturbation, targets_of
from advprune.modules.recipe import Perturbed
from advprune.objectives.adversarial import adversarial
from advprune.objectives.trades import trades
from advprune.pruners import scopes
from advprune.pruners.flying_bird import FlyingBird
from advprune.pruners.harp import Harp
from advprune.pruners.hydra import Hydra
from advprune.pruners.iht import Iht
from advprune.pruners.process import Moment, Process
from advprune.pruners.task import Task
from advprune.stages.training_phase import layout
from advprune.surgery.subnet import Subnet
from advprune.threat import Linf
from benchmarks._turns import DEVICE
from benchmarks.training_step import optimizer, resnet18

BATCH = int(os.environ.get("ADVPRUNE_BATCH", "64"))
NOW = Moment(step=10, steps=78_000, epoch=0, epochs=200)


@dataclass(frozen=True)
class Kind:
    """Say what a step has, and what it is compared with.

    Attributes:
        host: the step that it is compared with; None: it is one itself.
        bar: of its time.
        process: that prunes; None: the network is dense.
        perturbed: what is perturbed.
        objective: name of what is minimised.
    """

    host: str | None = None
    bar: str = "reported"
    process: type[Process] | None = None
    perturbed: Perturbed | None = None
    objective: str = "TRADES-10"


KINDS = {
    "plain": Kind(),
    "hydra": Kind("plain", "<= 1.08x", Hydra),
    "flying_bird": Kind("plain", "<= 1.03x", FlyingBird),
    "harp": Kind("plain", "<= 1.12x", Harp),
    "iht": Kind("plain", process=Iht),
    "AWP": Kind("plain", "<= 1.15x", perturbed=Perturbed.weights),
    "S2AP": Kind("hydra", "<= 1.15x", Hydra, Perturbed.scores),
    "plain PGD": Kind(objective="PGD-10"),
    "AWP PGD": Kind("plain PGD", perturbed=Perturbed.weights, objective="PGD-10"),
}


def objective_of(name: str, steps: int) -> Any:
    """Return an objective whose attack takes so many steps."""
    attack = partial(pgd, threat=Linf(8 / 255), steps=steps, rel_step=0.25)
    if name == "PGD-10":
        return partial(adversarial, attack=attack)
    return partial(trades, attack=partial(attack, loss=kl, start="gaussian"))


def network(kind: Kind) -> tuple[nn.Module, Process]:
    """Return a ResNet-18 as a job lays it out, and the process that it is seen through, if any."""
    net = resnet18().to(memory_format=layout(Trainer(), 32))
    spend = partial(scopes.spend, scope="layer")
    if kind.process is None:
        return net, Process(net, Task(0.0, spend, ()))  # which does nothing
    process = kind.process(net, Task(0.9, spend, tuple(prunable(net)), ratios=(0.9,))).to(DEVICE)
    process.groups(net)
    with torch.no_grad():
        process.start(net, [])
    return Subnet(net, process=process), process


def step_of(name: str, attack_steps: int = 10) -> Callable[[], None]:
    """Return the step of a kind."""
    kind = KINDS[name]
    x = torch.rand(BATCH, 3, 32, 32, device=DEVICE)
    y = torch.randint(10, (BATCH,), device=DEVICE)
    (net, process), objective = network(kind), objective_of(kind.objective, attack_steps)
    steps, perturbation = optimizer(net, ours=True), Perturbation(0.005)

    def refresh() -> None:
        with torch.no_grad():
            process.choose(NOW)
        if isinstance(net, Subnet):
            net.refresh()

    def evaluate(goal: Any) -> Tensor:
        return goal(net, x, y, progress=0.0)

    def loss() -> Tensor:
        if kind.perturbed is None:
            return evaluate(objective)
        targets = targets_of(net, kind.perturbed)
        return perturbation.loss(evaluate, objective, net, targets, refresh)

    def call() -> None:
        net.train()
        process.before_step(NOW)
        refresh()
        value, penalty = loss(), process.penalty(NOW)
        steps.zero_grad()
        (value if penalty is None else value + penalty).backward()
        perturbation.restore()
        with torch.no_grad():
            process.after_backward(NOW)
            steps.step()
            process.after_step(NOW, steps)

    return call
