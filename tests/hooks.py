"""Drive a process by a plain loop in torch, in the order in which the frame calls its hooks."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from advprune.pruners.process import Moment, Process


def vector(*values: float) -> nn.Module:
    """A network whose one weight is a row of values."""
    net = nn.Linear(len(values), 1, bias=False)
    net.weight.data = torch.tensor([values])
    return net


def see(process: Process, net: nn.Module, x: Tensor) -> Tensor:
    """The outputs of the network with the weights that it computes with."""
    weights = {name: process.effective(name, weight) for name, weight in process.weights.items()}
    return functional_call(net, weights, (x,))


def train(
    process: Process,
    net: nn.Module,
    loss: Callable[[dict[str, Tensor]], Tensor],
    *,
    epochs: int,
    steps: int = 1,
    measured: Mapping[str, float] | None = None,
    watch: Callable[[Moment], None] = lambda now: None,
    **sgd: Any,
) -> torch.optim.Optimizer:
    """Take ``steps`` steps an epoch on a loss of the effective weights, until the process is done."""
    groups = [
        {"params": group.parameters, "lr": sgd.get("lr", 0.1) * group.learning_rate}
        | {"weight_decay": sgd.get("weight_decay", 0.0) * group.weight_decay}
        for group in process.groups(net)
    ]
    optimizer = torch.optim.SGD(groups, **({"lr": 0.1} | sgd))
    with torch.no_grad():
        process.start(net, ())
    for step in range(epochs * steps):
        now = Moment(step, epochs * steps, step // steps, epochs)
        with torch.no_grad():
            process.before_step(now)
            process.choose(now)
        value = loss({n: process.effective(n, w) for n, w in process.weights.items()})
        pull = process.penalty(now)
        optimizer.zero_grad()
        (value if pull is None else value + pull).backward()
        with torch.no_grad():
            process.after_backward(now)
            optimizer.step()
            process.after_step(now, optimizer)
            watch(now)
            if (step + 1) % steps == 0:
                process.after_epoch(now, measured or {})
        if process.done():
            break
    with torch.no_grad():
        process.finish(net)
    return optimizer
