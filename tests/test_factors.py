"""Weights that train through two factors, under any pruner that trains weights: folding and zeros."""

from typing import Any

import pytest
import torch
from hooks import see, train
from processes import task
from torch import Tensor, nn

from advprune.masks import Masks, keep_count, prunable
from advprune.pruners.admm import Admm
from advprune.pruners.reparametrised import Reparametrised
from advprune.pruners.robust_bird import RobustBird
from advprune.pruners.rounds import Rounds
from advprune.pruners.task import Task
from advprune.pruners.tickets import Tickets
from advprune.pruners.twin_rep import TwinRep

RATIOS = (0.5, 0.8)
X = torch.rand(4, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def small() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    )


def rounds(net: nn.Module, asked: Task) -> Rounds:
    """Magnitude in two rounds."""

    def decide(seen: nn.Module, ratio: float, masks: Masks) -> Masks:
        sizes = {name: weight.detach().abs() for name, weight in prunable(seen).items()}
        return asked.spend(sizes, ratio, within=masks)

    return Rounds(net, asked, decide=decide, passes=3)


PRUNERS: dict[str, Any] = {
    "rounds": rounds,
    "admm": lambda net, asked: Admm(net, asked, rho=0.1, every=2),
    "tickets": Tickets,
    "robust_bird": RobustBird,
    "twin_rep": TwinRep,
}


def near(weights: dict[str, Tensor]) -> Tensor:
    return sum(((w - 0.1).square().sum() for w in weights.values()), torch.zeros(()))


def pruned(name: str, through: str | None) -> tuple[Reparametrised, nn.Module]:
    return trained(name, through)[:2]


def trained(
    name: str, through: str | None
) -> tuple[Reparametrised, nn.Module, torch.optim.Optimizer]:
    net = small().eval()
    ratios = RATIOS if name in ("rounds", "tickets") else None
    process = PRUNERS[name](net, task(net, 0.8, ratios=ratios, scope="global", through=through))
    options = {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-3}
    optimizer = train(process, net, near, epochs=6, steps=3, **options)
    return process, net, optimizer


@pytest.mark.parametrize("through", ["product", "channel"])
@pytest.mark.parametrize("name", PRUNERS)
def test_the_folded_network_computes_the_same_bits_with_exact_zeros(
    name: str, through: str
) -> None:
    process, net = pruned(name, through)
    computed = see(process, net, X)
    with torch.no_grad():
        for weight, value in process.final_weights().items():
            net.get_parameter(weight).copy_(value.masked_fill(~process.mask(weight), 0))
    assert torch.equal(net(X), computed)
    weights = prunable(net).values()
    total = sum(weight.numel() for weight in weights)
    assert sum(int((weight != 0).sum()) for weight in weights) == keep_count(total, 0.8)


@pytest.mark.parametrize("through", ["product", "channel"])
def test_a_criterion_sees_the_network_that_trains_and_leaves_it_so(through: str) -> None:
    process, net = pruned("rounds", through)
    computed, own = see(process, net, X), net.state_dict()
    own = {name: value.clone() for name, value in own.items()}
    with process.folded():
        assert torch.equal(net(X), computed)
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())


def test_momentum_does_not_revive_what_a_round_removed() -> None:
    process, _, optimizer = trained("rounds", "product")
    for name, weight in process.weights.items():
        for factor in (weight, process.factor(name)):
            assert not factor[~process.mask(name)].any()
            # the last round comes after the last step
            gone = optimizer.state[factor]["momentum_buffer"] == 0
            assert gone.double().mean() >= 0.4


@pytest.mark.parametrize("name", PRUNERS)
def test_without_factors_nothing_trains_beside_the_weights(name: str) -> None:
    process, net = pruned(name, None)
    assert not list(process.parameters())
    for weight, value in process.final_weights().items():
        assert value.data_ptr() == net.get_parameter(weight).data_ptr()


def test_a_pull_reaches_both_factors() -> None:
    net = small()
    process = Admm(net, task(net, 0.8, through="product"), rho=1.0)
    with torch.no_grad():
        process.start(net, ())
    pull = process.penalty(None)
    assert pull is not None
    pull.backward()
    for name, weight in process.weights.items():
        slope = process.composed()[name] - process.copy_of(name)  # rho (W - Z + U), U = 0
        assert torch.allclose(weight.grad, slope * process.factor(name).detach())
        assert torch.allclose(process.factor(name).grad, slope * weight.detach())


def test_a_ticket_that_trained_through_factors_begins_with_the_same_bits() -> None:
    beginning = {name: weight.detach().clone() for name, weight in prunable(small()).items()}
    process, _ = pruned("tickets", "product")
    for name, value in process.final_weights().items():
        assert torch.equal(value, beginning[name] * process.mask(name))
