"""Flying Bird's facts, F1 to F8 of our reading notes, and those of DNR's growth."""

import math

import pytest
import torch
from processes import at, convnet, fit, module_of, of_sizes, recipe, task
from torch import nn

from advprune.errors import UserError
from advprune.pruners.flying_bird import FlyingBird
from advprune.pruners.steering import Steering, back
from advprune.pruners.updates import Updates


def bird(net: nn.Module, ratio: float = 0.9, **options) -> FlyingBird:
    scope = options.pop("scope", "layer")
    process = FlyingBird(net, task(net, ratio, scope=scope), **options)
    process.start(net, [])
    return process


def updated(process: FlyingBird, net: nn.Module, step: int = 30) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    process.after_step(at(step), optimizer)


@pytest.mark.parametrize(("share", "dropped"), [(0.5, 100), (0.005, 1)])
def test_f1_as_many_grow_as_were_dropped(share: float, dropped: int) -> None:
    net = of_sizes(1000)
    process = bird(net, 0.8, first=share, last=share, every=1.0)
    before, weight = process.mask("0.weight").clone(), net[0].weight
    smallest = weight.detach().abs()[before].sort().values
    updated(process, net)
    after = process.mask("0.weight")
    assert int(after.sum()) == 200
    gone = weight.detach().abs()[before & after].numel()
    assert 200 - gone <= dropped  # some of the dropped may have grown again
    assert (weight.detach()[after & ~before] == 0).all()
    kept = weight.detach().abs()[before & after & (weight != 0)]
    assert set(smallest[dropped:].tolist()) <= set(kept.tolist())


@pytest.mark.parametrize(
    ("gaps", "losses", "total"),
    [((0, 1, 2, 3, 4), (4, 3, 2, 1, 0), 160), ((4, 3, 2, 1, 0), (0, 1, 2, 3, 4), 205), ((0, 1, 2, 3, 4), (0, 0, 0, 0, 0), 165), ((0,) * 5, (4, 3, 2, 1, 0), 200)],
)  # fmt: skip
def test_f2_overfitting_prunes_and_a_rising_loss_grows(gaps, losses, total: int) -> None:
    steering = Steering()
    for gap, loss in zip(gaps, losses, strict=True):
        steering.note({"train_robust_acc": gap + 1.0, "robust_acc": 1.0, "loss": loss})
    drop, grow = steering.plan([200], 0.5, [200], room=50)
    assert 200 - sum(drop) + sum(grow) == total
    drop, grow = steering.plan([200], 0.5, [200], room=4)
    assert sum(drop) == sum(grow) == 100  # whatever takes it too far away is not done


def test_f3_the_share_falls_as_a_cosine() -> None:
    updates = Updates(first=0.5, last=0.005, every=1, every_late=1, until=1.0)
    assert [updates.share(at(step)) for step in (0, 50, 100)] == pytest.approx([0.5, 0.2525, 0.005])
    early = Updates(first=0.3, last=0.0, every=1, every_late=1, until=0.75)
    assert [early.share(at(step)) for step in (0, 75, 99)] == pytest.approx([0.3, 0.0, 0.0])


def test_updates_leave_an_interval_to_train() -> None:
    updates = Updates(first=0.5, last=0.005, every=1.5, every_late=3.0, until=1.0)
    latest, made = 0, []
    for step in range(100):
        if updates.due(at(step), latest):
            latest = step + 1
            made.append((latest, updates.is_last(at(step))))
    # every 15 of 100 steps, of the second half every 30
    assert made == [(15, False), (30, False), (45, True)]


def test_an_update_that_waits_comes_after_its_epoch_is_validated() -> None:
    updates = Updates(first=0.3, last=0.3, every=1, every_late=1, until=1.0, wait=True)
    latest, made = 0, []
    for step in range(100):
        if updates.due(at(step), latest):
            latest = step + 1
            made.append(step)
    assert made == [10, 20, 30, 40, 50, 60, 70, 80, 90]  # the first steps of epochs of 10


def test_an_interval_in_which_nothing_grows_is_refused() -> None:
    net = convnet()
    process = FlyingBird(net, task(net, 0.9), every=2.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(UserError, match=r"every=2 epochs in a phase of 3 .*every=1.5 or less"):
        process.check(3, optimizer)
    process.check(4, optimizer)


def test_f6_new_weights_and_their_momentum_are_zero_and_outputs_stay() -> None:
    net = convnet()
    process = bird(net, 0.5, first=0.4, last=0.4, every=1.0, init="magnitude")
    module = module_of(process, net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x = torch.rand(4, 1, 8, 8)
    nn.functional.cross_entropy(module.net(x), torch.arange(4)).backward()
    optimizer.step()
    before = process.masks()
    process.after_step(at(30), optimizer)
    with torch.no_grad():
        for name, weight in process.weights.items():
            new = process.mask(name) & ~before[name]
            assert new.any()
            state = optimizer.state[weight]["momentum_buffer"]
            for value in (weight, state):
                assert not value[new].any()
                assert not value[~process.mask(name)].any()
        grown = module.net.eval()(x)
        process.set_masks({n: process.mask(n) & before[n] for n in before})
        assert torch.equal(module.net(x), grown)  # what grew changes nothing yet


@pytest.mark.parametrize("grow", ["random", "gradient", "momentum"])
@pytest.mark.parametrize("over", ["layer", "network", "momentum"])
def test_the_total_stays_whatever_grows_and_layers_keep_theirs(grow, over) -> None:
    net = convnet()
    process = bird(net, 0.8, grow=grow, over=over, every=0.67, scope="erk")
    before = process.masks()
    fit(module_of(process, net, recipe(epochs=4)))
    after = process.masks()
    assert process.result()["updates"] >= 3
    assert any(not torch.equal(before[name], after[name]) for name in before)
    counts = [{n: int(m.sum()) for n, m in masks.items()} for masks in (before, after)]
    assert sum(counts[0].values()) == sum(counts[1].values())
    assert (counts[0] == counts[1]) == (over == "layer")
    assert process.on_target()


def test_growth_by_gradient_takes_the_largest_dense_gradients() -> None:
    net = of_sizes(10)
    process = bird(net, 0.5, grow="gradient", first=0.4, last=0.4, every=1.0)
    process.before_step(at(30))
    slopes = torch.arange(10.0).view(1, 10) * torch.tensor([1.0, -1.0] * 5)
    (process.effective("0.weight", net[0].weight) * slopes).sum().backward()
    process.after_backward(at(30))
    before, sizes = process.mask("0.weight")[0].clone(), net[0].weight.detach()[0].abs()
    updated(process, net)
    kept = sizes.masked_fill(~before, -1).topk(3).indices.tolist()  # 2 of 5 go
    dead = [i for i in range(10) if i not in kept]
    assert sorted(process.mask("0.weight")[0].nonzero().flatten().tolist()) == sorted(
        [*kept, *sorted(dead)[-2:]]
    )


@pytest.mark.parametrize(("scale", "shares"), [(1.0, [20, 20]), (3.0, [10, 30])])
def test_dnr_grows_in_proportion_to_the_mean_momentum_of_living_weights(scale, shares) -> None:
    net = of_sizes(100, 300)
    process = bird(net, 0.8, over="momentum", first=0.5, last=0.5, every=1.0)
    process.gradients.sum("0.weight").fill_(-1.0)
    process.gradients.sum("1.weight").fill_(scale)
    updated(process, net)
    assert [int(m.sum()) for m in process.masks().values()] == [10 + shares[0], 30 + shares[1]]


def test_f7_draws_depend_on_the_seed_and_the_step_alone() -> None:
    ends = []
    for seed in (7, 7, 8):
        net = of_sizes(500)
        torch.manual_seed(seed * 31 + len(ends))  # what was drawn before does not matter
        process = FlyingBird(net, task(net, 0.9, seed=seed), every=1.0)
        process.start(net, [])
        updated(process, net)
        ends.append(process.mask("0.weight").clone())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_f8_half_of_the_changes_are_enough() -> None:
    steering = Steering()
    for gap in (0.0, 0.1, -0.1, 0.2, 0.2):
        steering.note({"train_robust_acc": gap, "robust_acc": 0.0, "loss": -gap})
    assert steering.overfits()
    for _ in range(2):
        steering.note({"train_robust_acc": 0.0, "robust_acc": 0.0, "loss": 1.0})
    assert not steering.overfits()


def test_the_last_update_brings_each_layer_back() -> None:
    drop, grow = back([210, 90], 0.01, [200, 100])
    assert [n - d + g for n, d, g in zip([210, 90], drop, grow, strict=True)] == [200, 100]
    net = convnet()
    steering = Steering(after=0.2, tolerance=0.3)
    process = bird(net, 0.8, every=0.34, steer=steering)
    asked, seen = process.asked.tolist(), []
    module = module_of(process, net, recipe(epochs=8, learning_rate=0.05))
    steering.note = lambda measured: (seen.append(sum(process._living())), None)[1]
    steering.overfits, steering.worsens = lambda: True, lambda: False
    fit(module)
    assert process._living() == asked
    assert process.on_target()
    assert min(seen) < sum(asked)  # in between there were fewer


def test_dense_layers_are_left_alone() -> None:
    net = convnet()
    process = bird(net, 0.0, every=0.67)
    fit(module_of(process, net, recipe(epochs=4)))
    assert all(mask.all() for mask in process.masks().values())
    assert all(
        math.isfinite(float(w.sum())) and w.count_nonzero() == w.numel()
        for w in process.weights.values()
    )
