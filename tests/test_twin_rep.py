"""Products of factors: their gradients, what SGD and decay do to them, and TwinRep's one pruning."""

import copy
from typing import Any

import pytest
import torch
from hooks import see, train
from processes import task
from torch import nn

from advprune.errors import UserError
from advprune.masks import keep_count, prunable
from advprune.pruners.process import Moment
from advprune.pruners.reparametrised import Reparametrised
from advprune.pruners.task import Task
from advprune.pruners.twin_rep import TwinRep


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    )


def product(net: nn.Module, ratio: float, **options: Any) -> Task:
    return task(net, ratio, through="product", **options)


def test_gradients_of_a_product() -> None:
    net = nn.Linear(4, 3, bias=False)
    process = Reparametrised(net, product(net, 0.5), init="kaiming")
    with torch.no_grad():
        process.start_factors()
    g = torch.randn(3, 4)
    (process.effective("weight", net.weight) * g).sum().backward()
    assert torch.allclose(process.factor("weight").grad, net.weight.detach() * g)
    assert torch.allclose(net.weight.grad, process.factor("weight").detach() * g)


def test_gradients_of_a_mix_of_filters() -> None:
    net = nn.Conv2d(2, 4, 3, bias=False)
    process = Reparametrised(net, task(net, 0.5, through="channel"), init="kaiming")
    with torch.no_grad():
        process.start_factors()
    a, v, g = process.factor("weight"), net.weight, torch.randn(4, 2, 3, 3)
    effective = process.effective("weight", v)
    assert torch.allclose(effective.flatten(1), a @ v.flatten(1))
    (effective * g).sum().backward()
    assert torch.allclose(a.grad, g.flatten(1) @ v.detach().flatten(1).T, atol=1e-6)
    assert torch.allclose(v.grad.flatten(1), a.detach().T @ g.flatten(1), atol=1e-6)


def ones(lr: float, decay: float = 0.0) -> tuple[Reparametrised, nn.Linear, torch.optim.SGD]:
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    process = Reparametrised(net, product(net, 0.0))
    parameters = [p for group in process.groups(net) for p in group.parameters]
    return process, net, torch.optim.SGD(parameters, lr=lr, weight_decay=decay)


def test_one_step_on_ones() -> None:
    process, net, optimizer = ones(0.1)
    process.effective("weight", net.weight).sum().backward()
    optimizer.step()
    assert float(process.composed()["weight"]) == pytest.approx(0.81)


def test_decay_alone_shrinks_the_product_twice() -> None:
    process, net, optimizer = ones(0.1, 0.2)
    for parameter in (net.weight, process.factor("weight")):
        parameter.grad = torch.zeros_like(parameter)
    for step in range(1, 4):
        optimizer.step()
        assert float(process.composed()["weight"]) == pytest.approx((1 - 0.1 * 0.2) ** (2 * step))


def test_small_steps_conserve_the_difference_of_squares() -> None:
    changes = []
    for lr in (0.02, 0.01):
        torch.manual_seed(1)
        net = nn.Linear(5, 5, bias=False)
        process = Reparametrised(net, product(net, 0.0), init="kaiming")
        with torch.no_grad():
            process.start_factors()
        u, v, g = process.factor("weight"), net.weight, torch.randn(5, 5)
        before = u.detach() ** 2 - v.detach() ** 2
        (process.effective("weight", v) * g).sum().backward()
        with torch.no_grad():
            u -= lr * u.grad
            v -= lr * v.grad
        changes.append((u.detach() ** 2 - v.detach() ** 2 - before).abs().max())
    assert float(changes[0] / changes[1]) == pytest.approx(4, rel=0.01)  # O(lr^2)


@pytest.mark.parametrize("through", ["product", "channel"])
def test_kept_weights_compute_what_the_network_computed(through: str) -> None:
    net, x = small().eval(), torch.randn(2, 2, 4, 4)
    before = net(x)
    process = TwinRep(net, task(net, 0.0, through=through))
    with torch.no_grad():
        process.start(net, ())
    assert torch.allclose(see(process, net, x), before, atol=1e-6)


@pytest.mark.parametrize("through", ["product", "channel"])
def test_drawn_factors_are_scaled_to_the_spread_of_the_weights(through: str) -> None:
    net = small()
    weights = {name: weight.detach().clone() for name, weight in prunable(net).items()}
    process = TwinRep(net, task(net, 0.5, through=through), init="scaled")
    with torch.no_grad():
        process.start(net, ())
    for name, weight in weights.items():
        spread = process.composed()[name].square().mean().sqrt()
        assert torch.allclose(spread, weight.square().mean().sqrt(), rtol=1e-5)
        assert not torch.allclose(process.composed()[name], weight, rtol=0.1)


def descend(u: float, v: float, target: float) -> float:
    """The product after steps on (uv - target)^2 / 2."""
    for _ in range(500):
        slope = u * v - target
        u, v = u - 0.1 * slope * v, v - 0.1 * slope * u
    return u * v


def test_a_product_of_equal_factors_never_changes_its_sign_and_one_that_is_kept_does() -> None:
    assert descend(0.5, 0.5, -1.0) == pytest.approx(0, abs=1e-6)
    assert descend(1.0, 0.25, -1.0) == pytest.approx(-1)


@pytest.mark.parametrize("through", ["product", "channel"])
def test_what_is_exported_gives_the_same_logits(through: str) -> None:
    net, x = small(), torch.randn(2, 2, 4, 4)
    process = TwinRep(net, task(net, 0.7, scope="global", through=through), init="kaiming")
    train(process, net, lambda w: sum((v - 0.1).square().sum() for v in w.values()), epochs=20)
    net.eval()
    before = see(process, net, x)
    with torch.no_grad():
        for name, value in process.final_weights().items():
            dict(net.named_parameters())[name].copy_(value * process.mask(name))
    assert torch.allclose(net(x), before, atol=1e-6)
    kept = sum(int((w != 0).sum()) for w in prunable(net).values())
    assert kept == keep_count(sum(w.numel() for w in prunable(net).values()), 0.7)


def test_with_one_factor_frozen_and_nothing_removed_it_is_plain_training() -> None:
    net = small()
    plain, target = copy.deepcopy(net), 0.3
    process = TwinRep(net, product(net, 0.0))
    for name in process.weights:
        process.factor(name).requires_grad_(False)
    train(process, net, lambda w: sum((v - target).square().sum() for v in w.values()), epochs=9)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(9):
        optimizer.zero_grad()
        sum((w - target).square().sum() for w in prunable(plain).values()).backward()
        optimizer.step()
    for name, weight in prunable(plain).items():
        assert torch.equal(weight, dict(net.named_parameters())[name])


def test_it_prunes_once_after_a_tenth_and_what_is_dead_stays_dead() -> None:
    net, seen = small(), []
    process = TwinRep(net, product(net, 0.5, scope="global"))

    def watch(now: Moment) -> None:
        seen.append({name: mask.clone() for name, mask in process.masks().items()})

    optimizer = train(
        process,
        net,
        lambda w: sum((v - 0.1).square().sum() for v in w.values()),
        epochs=10,
        steps=3,
        watch=watch,
        momentum=0.9,
        weight_decay=0.01,
    )
    assert all(mask.all() for masks in seen[:3] for mask in masks.values())
    assert not all(mask.all() for mask in seen[3].values())
    for masks in seen[3:]:
        assert all(torch.equal(masks[name], seen[3][name]) for name in masks)
    for name, weight in process.weights.items():
        dead = ~process.mask(name)
        for factor in (weight, process.factor(name)):
            assert not factor[dead].any()
            assert not optimizer.state[factor]["momentum_buffer"][dead].any()
    assert process.on_target()


def test_the_factors_follow_the_seed() -> None:
    values = []
    for seed in (1, 1, 2):
        net = small()
        process = TwinRep(net, product(net, 0.5, seed=seed), init="kaiming")
        with torch.no_grad():
            process.start(net, ())
        values.append(process.composed()["0.weight"])
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    assert values[0].abs().max() <= 1 / 18  # both factors within 1 / sqrt(fan_in)


def test_a_word_that_means_nothing_is_refused() -> None:
    net = small()
    with pytest.raises(UserError, match="init='zeros' is not one of keep, scaled, kaiming"):
        TwinRep(net, task(net, 0.5), init="zeros")
