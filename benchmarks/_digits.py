"""Train small residual networks on scanned digits, which are at hand with no data set."""

import copy
from functools import cache, partial
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.logits import kl
from advprune.models.cifar_resnet import CifarResNet
from advprune.objectives.natural import natural as plain
from advprune.objectives.trades import trades
from advprune.threat import Linf
from benchmarks._turns import DEVICE
from benchmarks.autoattack import halved

ATTACKED, EPOCHS, BATCH = 1000, 30, 64
Data = tuple[Tensor, Tensor]
PIXELS: dict[str, Any] = {
    "num_classes": 10,
    "in_channels": 1,
    "image_size": 8,
    "mean": [0.305],
    "std": [0.376],
}
TRADES = partial(trades, attack=partial(pgd, threat=Linf(0.1), steps=5, loss=kl, start="gaussian"))


@cache
def digits() -> tuple[Data, Data]:
    """Return 797 scans to train on and 1,000 others to attack, 8x8 pixels in [0, 1]."""
    scans = load_digits()
    order = torch.randperm(len(scans.target), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(scans.images).float().unsqueeze(1)[order].to(DEVICE) / 16
    y = torch.from_numpy(scans.target)[order].long().to(DEVICE)
    return (x[ATTACKED:], y[ATTACKED:]), (x[:ATTACKED], y[:ATTACKED])


def images(count: int) -> Data:
    """Return the first ones of the 1,000 to attack."""
    x, y = digits()[1]
    return x[:count], y[:count]


def trained(objective: partial[Tensor]) -> nn.Module:
    """Return a ResNet-8 with BatchNorm, after a few seconds' training."""
    torch.manual_seed(0)
    return fitted(CifarResNet(depth=8, width=8, **PIXELS), objective, *digits()[0])


def fitted(
    net: nn.Module,
    objective: partial[Tensor],
    x: Tensor,
    y: Tensor,
    *,
    rate: float = 0.1,
    epochs: int = EPOCHS,
) -> nn.Module:
    """Return the network itself, trained on images (N, C, H, W) with labels (N,)."""
    net.to(DEVICE).train()
    steps = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    batches = -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(steps, rate, total_steps=epochs * batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).to(DEVICE).split(BATCH):
            steps.zero_grad()
            objective(net, x[rows], y[rows], progress=0.0).backward()
            steps.step()
            schedule.step()
    return net.eval().requires_grad_(False)


@cache
def natural() -> nn.Module:
    """Return a network trained on clean images."""
    return trained(partial(plain))


@cache
def robust() -> nn.Module:
    """Return a network trained by TRADES."""
    return trained(TRADES)


@cache
def pruned() -> nn.Module:
    """Return the robust network without the smaller half of its weights."""
    return halved(copy.deepcopy(robust()))
