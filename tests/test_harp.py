"""HARP's facts, H1 to H7 of our reading notes: numbers by hand, and laws of its rates."""

import math

import pytest
import torch
from processes import at, batches, convnet, fit, module_of, of_sizes, recipe, task
from torch import nn

from advprune.errors import UserError
from advprune.masks import keep_count
from advprune.pruners.harp import Harp, floors
from advprune.pruners.hydra import Hydra
from advprune.pruners.spread import spread


def harp(sizes: tuple[int, ...], ratio: float, **options) -> Harp:
    net = of_sizes(*sizes)
    return Harp(net, task(net, ratio), **options)


@pytest.mark.parametrize(
    ("ratio", "rate"), [(0.99, -2.207275), (0.9, -2.302585), (0.95, -2.248518)]
)
def test_h1_rates_start_where_each_layer_keeps_a_tenth(ratio: float, rate: float) -> None:
    process = harp((1000, 2000), ratio)
    torch.testing.assert_close(process.rates.detach(), torch.full((2,), rate), atol=1e-6, rtol=0)
    torch.testing.assert_close(process.keep_rates().detach(), torch.full((2,), 0.1))


def test_h2_a_rate_of_zero_is_half_way() -> None:
    process = harp((1000,), 0.99)
    with torch.no_grad():
        process.rates.zero_()
    assert process.keep_rates().item() == pytest.approx(0.5005)


def test_h3_the_excess_and_its_slope() -> None:
    process = harp((100, 900), 0.9, floor=0.0)
    with torch.no_grad():
        process.rates.copy_(torch.logit(torch.tensor([0.5, 0.1])))
    rates = process.keep_rates()
    (slope,) = torch.autograd.grad(process.excess(), process.rates)
    assert process.excess().item() == pytest.approx(0.4, abs=1e-6)
    by_rate = slope / (rates * (1 - rates))  # of the sigmoid
    torch.testing.assert_close(by_rate.detach(), torch.tensor([1.0, 9.0]))


def test_h4_gradients_of_scores_and_rate() -> None:
    net = of_sizes(3)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.5, -1.0, 2.0]]))
    process = Harp(net, task(net, 0.5), init="magnitude", floor=0.0)
    with torch.no_grad():
        process.rates.zero_()
    process.effective("0.weight", net[0].weight).sum().backward()
    assert process.score("0.weight").grad.tolist() == [[0.5, 1.0, 2.0]]
    assert process.rates.grad.item() == pytest.approx(0.375)  # dL/dk = 1.5, dk/dr = 1/4


def test_h5_within_the_budget_nothing_pulls() -> None:
    process = harp((100, 900), 0.9, density=0.05)
    assert process.excess().item() == 0.0
    (slope,) = torch.autograd.grad(process.excess(), process.rates)
    assert not slope.any()


@pytest.mark.parametrize("bn", ["train", "freeze_all"])
def test_h6_fixed_at_what_is_asked_for_it_is_hydra(bn: str) -> None:
    ends = []
    for kind, options in ((Hydra, {}), (Harp, {"density": 0.3, "gamma": 0.0})):
        net = convnet()
        process = kind(net, task(net, 0.7), bn=bn, **options)
        if isinstance(process, Harp):
            process.groups = lambda net, own=process: [*super(Harp, own).groups(net)]
        module = module_of(process, net, recipe(epochs=3))
        fit(module)
        ends.append((process.masks(), process.scores(), net.state_dict()))
    for mine, theirs in zip(*ends, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.97])
def test_h7_after_training_the_total_is_exact_and_no_layer_is_below_its_floor(ratio: float) -> None:
    net = convnet()
    process = Harp(net, task(net, ratio), gamma=1.0)
    module = module_of(process, net, recipe(epochs=4, learning_rate=2.0))
    fit(module)
    masks = module.finish()
    assert sum(int(mask.sum()) for mask in masks.values()) == keep_count(54 + 432 + 512, ratio)
    assert process.on_target()
    for mask in masks.values():
        assert int(mask.sum()) >= 0.1 * (1 - ratio) * mask.numel() - 1e-9
    shares = [float(mask.float().mean()) for mask in masks.values()]
    assert max(shares) - min(shares) > 0.02  # the layers did learn to differ


def test_the_penalty_grows_until_the_budget_is_met_and_stays() -> None:
    process = harp((100, 900), 0.9, density=0.3)
    factors = []
    for epoch in range(4):
        factors.append(float(process.growth))
        if epoch == 2:
            with torch.no_grad():
                process.rates.fill_(-3.0)
        process.after_epoch(at(10 * epoch), {})
    with torch.no_grad():
        process.rates.fill_(0.0)  # above the budget again: the factor does not grow any more
    process.after_epoch(at(50), {})
    assert [*factors, float(process.growth)] == [1, 2, 3, 3, 3]
    assert float(process.penalty(at(60))) == pytest.approx(0.01 * 3 * float(process.excess()))


def test_more_than_a_tenth_starts_from_what_is_asked_for() -> None:
    assert harp((1000, 500), 0.5).keep_rates().tolist() == pytest.approx([0.5, 0.5])


def test_the_rates_do_not_decay_unless_asked() -> None:
    net = of_sizes(50)
    assert Harp(net, task(net, 0.9)).groups(net)[1].weight_decay == 0
    assert Harp(net, task(net, 0.9), rate_decay=1.0).groups(net)[1].weight_decay == 1


def test_floors_that_do_not_fit_name_the_largest_ratio() -> None:
    sizes = [10] * 20
    with pytest.raises(
        UserError, match=r"leaves 4 weights, fewer than the 20 .* give ratio=0\.9 or"
    ):
        floors(sizes, 0.1, 0.98)
    assert floors(sizes, 0.1, 0.9) == [1] * 20
    assert floors([1000, 10], 0.1, 0.5) == [50, 1]


def test_groups_of_weights_have_a_fixed_share() -> None:
    net = of_sizes(40)
    asked = task(net, 0.5)
    object.__setattr__(asked, "group", 4)
    with pytest.raises(
        UserError, match=r"a scope of groups of 4 weights fixes it: give pruner.scope"
    ):
        Harp(net, asked)


def test_spread_rounds_to_the_total_within_bounds() -> None:
    assert spread([1.5, 2.5, 6.0], 10, [0, 0, 0], [9, 9, 9]) == [2, 2, 6]
    assert spread([0.2, 0.2, 9.6], 10, [1, 1, 0], [9, 9, 9]) == [1, 1, 8]
    assert spread([5.0, 5.0], 10, [0, 0], [2, 9]) == [2, 8]


def test_a_sparse_network_stays_within_its_zeros() -> None:
    net = convnet()
    weight: nn.Parameter = net[3].weight
    within = {
        n: torch.ones_like(net.get_parameter(n), dtype=torch.bool)
        for n in ("0.weight", "3.weight", "8.weight")
    }
    within["3.weight"] &= torch.arange(weight.numel()).view_as(weight) % 2 == 0
    process = Harp(net, task(net, 0.5, scope="global", within=within))
    process.start(net, batches())
    process.finish(net)
    assert not (process.mask("3.weight") & ~within["3.weight"]).any()
    assert math.isclose(sum(int(m.sum()) for m in process.masks().values()), keep_count(998, 0.5))
