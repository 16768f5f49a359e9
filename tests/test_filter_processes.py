"""Processes that prune whole filters: their masks are what surgery leaves, and budgets are met."""

import copy
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hooks import see, train
from networks import lively
from processes import task as task_on_weights
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import prunable
from advprune.modules.filter_masks import SpendOnFilters, kept_filters
from advprune.modules.shrinking import Shrinking
from advprune.pruners.admm import Admm
from advprune.pruners.harp_channels import HarpChannels
from advprune.pruners.process import Moment
from advprune.pruners.task import Task
from advprune.pruners.twin_rep import TwinRep
from advprune.surgery.budget import Dense
from advprune.surgery.structure import Structure, shrink

X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
PRUNERS = [("parameters", "layer"), ("macs", "global"), ("filters", "layer"), ("filters", "global")]


def asked(net: nn.Module, ratio: float, budget: str, scope: str) -> tuple[Task, Dense]:
    units: Any = SimpleNamespace(
        unit="filters", budget=budget, scope=scope, floor=None, round_to=None
    )
    shrinking = Shrinking(net, units, (3, 32, 32))
    spend = SpendOnFilters(shrinking)
    return Task(ratio, spend, tuple(prunable(net)), ratios=(ratio,)), shrinking.whole


def near(target: float):
    def loss(weights: dict[str, Tensor]) -> Tensor:
        return sum(((w - target).square().mean() for w in weights.values()), torch.zeros(()))

    return loss


def gone(whole: Dense, masks: dict[str, Tensor], budget: str) -> float:
    kept = kept_filters(masks, whole.widths)
    removed = {site: whole.widths[site] - len(stay) for site, stay in kept.items()}
    return whole.share(budget, removed, [])


@pytest.mark.parametrize("kind", ["resnet_b", "vgg16_bn", "mobilenet_v2", "preact_resnet18"])
def test_the_masked_network_is_the_one_that_surgery_leaves(kind: str) -> None:
    net = lively(kind)
    task, whole = asked(net, 0.5, "parameters", "global")
    scores = {name: weight.detach().abs() for name, weight in prunable(net).items()}
    masks = task.masks(scores)
    assert gone(whole, masks, "parameters") >= 0.5
    small = copy.deepcopy(net)
    with torch.no_grad():
        for name, weight in prunable(net).items():
            weight.mul_(masks[name])
    kept = kept_filters(masks, whole.widths)
    shrink(small, Structure(kept, [], {}), groups=whole.groups, sites=whole.blocks)
    assert torch.allclose(small(X), net(X), atol=1e-4)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("budget", "scope"), PRUNERS)
def test_costs_are_those_of_the_network_with_fewer_filters(budget: str, scope: str) -> None:
    net = lively("resnet_b")
    task, whole = asked(net, 0.4, budget, scope)
    masks = task.masks({name: torch.rand_like(w) for name, w in prunable(net).items()})
    kept = kept_filters(masks, whole.widths)
    shares = {s: torch.tensor(len(k) / whole.widths[s]).double() for s, k in kept.items()}
    cost = sum(float(cost.at(shares)) for cost in task.spend.costs)
    total = sum(cost.pairs + cost.outputs for cost in task.spend.costs)
    assert 1 - cost / total == pytest.approx(gone(whole, masks, budget), abs=1e-9)


@pytest.mark.parametrize(("budget", "scope"), PRUNERS)
def test_twin_rep_trains_on_without_the_filters_that_went(budget: str, scope: str) -> None:
    net = lively("resnet_b")
    task, whole = asked(net, 0.5, budget, scope)
    process, seen = TwinRep(net, replace(task, through="product")), []

    def watch(now: Moment) -> None:
        seen.append(process.masks())

    train(process, net, near(0.1), epochs=5, steps=2, watch=watch)
    assert process.on_target()
    assert gone(whole, process.masks(), budget) >= 0.5 - 1e-9
    assert all(torch.equal(seen[1][name], seen[-1][name]) for name in seen[1])
    kept = kept_filters(process.masks(), whole.widths)
    for site, stay in kept.items():
        assert process.final_weights()[f"{site}.weight"][stay].flatten(1).any(1).all()


def test_admm_pulls_whole_filters_to_zero() -> None:
    net = lively("resnet_b")
    task, whole = asked(net, 0.5, "filters", "layer")
    process = Admm(net, task, rho=1.0, growth=1.0, every=2)
    sizes = {name: weight.detach().clone() for name, weight in prunable(net).items()}

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return sum(
            ((w - sizes[n]).square().sum() / 200 for n, w in weights.items()), torch.zeros(())
        )

    train(process, net, loss, epochs=12, steps=4)
    for site, stay in kept_filters(process.masks(), whole.widths).items():
        assert len(stay) == whole.widths[site] // 2
        copies = process.copy_of(f"{site}.weight").flatten(1).any(1)
        assert int(copies.sum()) == len(stay)
        norms = net.get_parameter(f"{site}.weight").detach().flatten(1).norm(dim=1)
        others = [i for i in range(len(norms)) if i not in stay]
        assert norms[others].max() < norms[stay].min()
        assert norms[others].mean() < 0.2 * sizes[f"{site}.weight"].flatten(1).norm(dim=1).mean()


def harp(
    ratio: float = 0.6, budget: str = "macs", **options: Any
) -> tuple[HarpChannels, nn.Module, Dense]:
    net = lively("resnet_b")
    task, whole = asked(net, ratio, budget, "layer")
    return HarpChannels(net, task, **options), net, whole


@pytest.mark.parametrize("budget", ["parameters", "macs", "filters"])
@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_harp_meets_its_budget_from_below_and_wastes_little(budget: str, ratio: float) -> None:
    process, net, whole = harp(ratio, budget)
    optimizer = train(process, net, near(0.1), epochs=3, steps=2)
    share = gone(whole, process.masks(), budget)
    assert ratio - 1e-9 <= share < ratio + 0.1
    assert process.on_target()
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not held & {id(weight) for weight in prunable(net).values()}


def test_harps_gradients_by_hand() -> None:
    process, net, _ = harp()
    with torch.no_grad():
        process.start(net, ())
    process.groups(net)
    name, site = next(iter(process.spend.readers.items()))
    g = torch.randn_like(process.weights[name])
    (process.effective(name, process.weights[name]) * g).sum().backward()
    slope = (process.weights[name].detach() * g).sum((0, 2, 3))
    assert torch.allclose(
        process.score(site).grad, slope * process.score(site).detach().sign(), atol=1e-5
    )
    rate = process.keep_rates()[process.sites.index(site)]
    (inner,) = torch.autograd.grad(rate, process.rates)
    assert torch.allclose(process.rates.grad, slope.sum() * inner, atol=1e-5)


@pytest.mark.parametrize("kind", ["resnet_b", "mobilenet_v2"])
def test_harp_learns_behind_batch_norm(kind: str) -> None:
    """The scale of a filter before BatchNorm means nothing, so its own weights give no gradient."""
    net = lively(kind)
    task, _ = asked(net, 0.5, "macs", "layer")
    process = HarpChannels(net, task)
    with torch.no_grad():
        process.start(net, ())
    process.groups(net)
    see(process, net.train(), torch.rand(8, 3, 32, 32)).square().sum().backward()
    slopes = {site: float(process.score(site).grad.abs().max()) for site in process.sites}
    assert min(slopes.values()) > 1e-3
    assert process.rates.grad.abs().min() > 1e-3


def test_harps_penalty_is_nothing_within_the_budget_and_grows_outside_it() -> None:
    process, *_ = harp(gamma=0.5)
    now = Moment(0, 1, 0, 1)
    with torch.no_grad():
        process.rates.fill_(9.0)
    assert process.excess(process.keep_rates()) > 1
    for epoch in range(3):
        pull = process.penalty(now)
        expected = 0.5 * (epoch + 1) * process.excess(process.keep_rates())
        assert torch.allclose(pull, expected)
        with torch.no_grad():
            process.after_epoch(now, {})
    with torch.no_grad():
        process.rates.fill_(-9.0)
        assert process.penalty(now) == 0
        process.after_epoch(now, {})
        process.rates.fill_(9.0)
        process.after_epoch(now, {})
    assert float(process.growth) == 4


def test_harp_can_widen_one_layer_at_the_cost_of_another() -> None:
    process, net, whole = harp(0.5, "filters", gamma=1.0)
    first, *others = process.sites
    readers = {site: name for name, site in process.spend.readers.items()}
    wanted = net.get_parameter(readers[first]).detach().clone()

    def loss(weights: dict[str, Tensor]) -> Tensor:
        rest = sum((weights[readers[s]].square().sum() for s in others), torch.zeros(()))
        return (weights[readers[first]] - wanted).square().sum() + 0.01 * rest

    train(process, net, loss, epochs=10, steps=5, lr=0.02)
    kept = kept_filters(process.masks(), whole.widths)
    assert len(kept[first]) / whole.widths[first] > 0.7
    assert gone(whole, process.masks(), "filters") >= 0.5


def test_harp_on_filters_asks_for_filters() -> None:
    net = lively("resnet_b")
    with pytest.raises(UserError, match=r"learns widths of layers: give pruner\.unit=filters"):
        HarpChannels(net, task_on_weights(net, 0.5))


def test_a_budget_below_the_narrowest_network_is_refused() -> None:
    sentence = (
        r"leaves less than the narrowest network costs.* give a ratio of at most (0\.\d+), or"
    )
    process, net, _ = harp(0.999, "parameters")
    optimizer = torch.optim.SGD(net.parameters())
    with pytest.raises(UserError, match=sentence) as raised:
        process.check(1, optimizer)
    found = re.search(sentence, str(raised.value))
    assert found is not None
    largest = float(found[1])
    harp(largest, "parameters")[0].check(1, optimizer)
    with pytest.raises(UserError, match=sentence):
        harp(largest + 0.001, "parameters")[0].check(1, optimizer)


def test_what_harp_keeps_is_what_it_computes() -> None:
    process, net, _ = harp()
    net.eval()
    with torch.no_grad():
        process.start(net, ())
        before = see(process, net, X)
        for name, weight in process.weights.items():
            weight.mul_(process.mask(name))
        assert torch.allclose(net(X), before, atol=1e-5)
