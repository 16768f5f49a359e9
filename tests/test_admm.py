"""R-ADMM and PwoA's first phase: updates by hand, a toy solved exactly, and their schedules."""

import copy
import itertools
from typing import Any

import pytest
import torch
from hooks import train, vector
from processes import task
from torch import nn

from advprune.errors import UserError
from advprune.masks import keep_count, prunable
from advprune.pruners.admm import Admm
from advprune.pruners.process import Moment

A = torch.tensor([[3.0, -1.0, 0.5, -2.0]])


def started(net: nn.Module, ratio: float = 0.5, **options: Any) -> Admm:
    process = Admm(net, task(net, ratio), **options)
    with torch.no_grad():
        process.start(net, ())
    return process


def after(process: Admm, epoch: int, epochs: int) -> None:
    with torch.no_grad():
        process.after_epoch(Moment(0, 1, epoch, epochs), {})


def test_an_update_by_hand() -> None:
    process = started(vector(3.0, -1.0, 0.5, -2.0))
    with torch.no_grad():
        process.update()
    assert process.copy_of("weight").tolist() == [[3.0, 0.0, 0.0, -2.0]]
    assert process.dual("weight").tolist() == [[0.0, -1.0, 0.5, 0.0]]
    # the copy is another tensor: in the authors' code, on a processor, projecting writes into W
    assert process.weights["weight"].tolist() == [[3.0, -1.0, 0.5, -2.0]]


@pytest.mark.parametrize("attached", [False, True])
def test_the_pulls_gradient_is_rho_times_the_gap_and_n_plus_1_times_that_in_the_authors_code(
    attached: bool,
) -> None:
    net = vector(3.0, -1.0, 0.5, -2.0)
    process = started(net, rho=0.1, attached_duals=attached)
    for n in range(4):
        gap = net.weight - process.copy_of("weight") + process.dual("weight")
        pull = process.penalty(Moment(0, 1, 0, 1))
        assert pull is not None
        expected = process.rho / 2 * gap.detach().square().sum()
        assert torch.allclose(pull.detach(), expected)
        (slope,) = torch.autograd.grad(pull, net.weight)
        factor = n + 1 if attached else 1
        assert torch.allclose(slope, factor * process.rho * gap.detach(), rtol=1e-5)
        with torch.no_grad():
            process.update()


def test_projecting_twice_changes_nothing_and_nothing_sparse_is_nearer() -> None:
    v = torch.randn(1, 6)
    process = started(vector(*v[0].tolist()), 0.5)
    z = process.copy_of("weight").clone()
    again = started(vector(*z[0].tolist()), 0.5).copy_of("weight")
    assert torch.equal(z, again)
    for kept in itertools.combinations(range(6), 3):
        other = torch.zeros_like(v)
        other[0, list(kept)] = v[0, list(kept)]
        assert (v - z).norm() <= (v - other).norm() + 1e-6


@pytest.mark.parametrize("rho", [1.0, 4.0])
def test_a_strong_pull_solves_the_toy(rho: float) -> None:
    """L = ||W - a||^2 / 2, each W solved exactly: the support stays, and W goes to the sparse a."""
    net = vector(*A[0].tolist())
    process = started(net, rho=rho, growth=1.0)
    for _ in range(60):
        z, u = process.copy_of("weight"), process.dual("weight")
        with torch.no_grad():
            net.weight.copy_((A + rho * (z - u)) / (1 + rho))
            process.update()
        assert process.copy_of("weight").bool().tolist() == [[True, False, False, True]]
    assert torch.allclose(net.weight, torch.tensor([[3.0, 0.0, 0.0, -2.0]]), atol=1e-3)


def test_a_weak_pull_keeps_flipping_the_support() -> None:
    """The duals of what is pruned grow to a / rho, beyond what stays: few updates are part of the method."""
    net = vector(*A[0].tolist())
    process, supports = started(net, rho=0.05, growth=1.0), []
    for _ in range(200):
        z, u = process.copy_of("weight"), process.dual("weight")
        with torch.no_grad():
            net.weight.copy_((A + 0.05 * (z - u)) / 1.05)
            process.update()
        supports.append(tuple(process.copy_of("weight")[0].bool().tolist()))
    assert len(set(supports[100:])) > 1


def test_the_authors_schedule() -> None:
    process = started(vector(1.0, 2.0), rho=1e-3, growth=1.3, every=20)
    for epoch in range(200):
        after(process, epoch, 200)
    assert int(process.updates) == 9
    assert process.rho == pytest.approx(0.0106045, rel=1e-5)


def test_pwoas_schedule_has_a_cap() -> None:
    process = started(vector(1.0, 2.0), rho=0.01, growth=1.35, largest=1.0, every=3)
    made = []
    for epoch in range(50):
        before = int(process.updates)
        after(process, epoch, 50)
        if int(process.updates) > before:
            made.append(epoch + 2)  # the epoch, counted from 1, that first trains with it
            if len(made) == 15:
                assert process.rho == pytest.approx(0.9016, rel=1e-4)
    assert made == list(range(4, 50, 3))
    assert process.rho == 1.0


@pytest.mark.parametrize(("epochs", "updates"), [(20, 6), (7, 6), (14, 6), (1, 0), (2, 1)])
def test_a_short_phase_has_up_to_six_updates_and_none_after_its_last_epoch(
    epochs: int, updates: int
) -> None:
    process = started(vector(1.0, 2.0))
    for epoch in range(epochs):
        after(process, epoch, epochs)
    assert int(process.updates) == updates


def test_fresh_copies_forget_the_duals_at_each_epoch() -> None:
    net = vector(3.0, -1.0, 0.5, -2.0)
    process = started(net, every=2, fresh_copies=True)
    process.dual("weight").copy_(torch.tensor([[0.0, 9.0, 0.0, 0.0]]))
    after(process, 0, 9)
    assert process.copy_of("weight").tolist() == [[3.0, 0.0, 0.0, -2.0]]
    after(process, 1, 9)
    assert process.copy_of("weight").tolist() == [[3.0, 8.0, 0.0, 0.0]]


@pytest.mark.parametrize("options", [{"rho": 0.0}, {}])
def test_without_a_pull_it_is_magnitude_pruning_of_what_was_trained(
    options: dict[str, Any],
) -> None:
    """Nothing pulls without rho, or if nothing is to be removed."""
    ratio = 0.5 if options else 0.0
    net = vector(0.1, 0.2, 0.3, 0.4)
    plain = copy.deepcopy(net)
    process = Admm(net, task(net, ratio), **options)
    train(process, net, lambda w: (w["weight"] - A).square().sum() / 2, epochs=8)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(8):
        optimizer.zero_grad()
        ((plain.weight - A).square().sum() / 2).backward()
        optimizer.step()
    assert torch.equal(net.weight, plain.weight)
    assert process.mask("weight").tolist() == [[True, ratio == 0, ratio == 0, True]]
    assert process.on_target()


def test_the_pull_makes_what_goes_small_and_leaves_what_stays() -> None:
    net = vector(0.1, 0.2, 0.3, 0.4)
    process = Admm(net, task(net, 0.5), rho=1.0, growth=1.0, every=1)
    train(process, net, lambda w: (w["weight"] - A).square().sum() / 2, epochs=60, steps=20)
    assert process.mask("weight").tolist() == [[True, False, False, True]]
    assert net.weight[0, 1:3].abs().max() < 0.05
    assert torch.allclose(net.weight[0, [0, 3]], A[0, [0, 3]], atol=0.05)


def test_a_killed_phase_goes_on_bit_for_bit() -> None:
    net = vector(0.1, 0.2, 0.3, 0.4)
    process = started(net, every=1)
    for epoch in range(3):
        after(process, epoch, 9)
    other = Admm(net, process.task, every=1)
    other.load_state_dict(process.state_dict())
    assert other.rho == process.rho
    assert torch.equal(other.dual("weight"), process.dual("weight"))
    assert torch.equal(other.copy_of("weight"), process.copy_of("weight"))


def test_the_copy_of_columns_has_whole_ones_and_the_pull_empties_the_others() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False))
    weight = net[0].weight
    wanted = weight.detach().clone()
    process = Admm(net, task(net, 0.5, scope="columns"), rho=1.0, growth=1.0, every=2)
    train(process, net, lambda w: (w["0.weight"] - wanted).square().sum() / 2, epochs=40, steps=4)
    kept = process.mask("0.weight").flatten(1)
    assert torch.equal(kept.all(0), kept.any(0))
    assert int(kept.all(0).sum()) == keep_count(27, 0.5) == 14
    norms, before = (w.detach().flatten(1).norm(dim=0) for w in (weight, wanted))
    assert torch.equal(kept.all(0), before >= before.sort().values[13])  # the support stayed
    assert norms[~kept.any(0)].max() < 0.05 * norms[kept.all(0)].min()


def test_restarts_go_through_the_whole_schedule_after_each_update() -> None:
    def at(ratio: float, **options: Any) -> list[int]:
        process = started(vector(1.0, 2.0), ratio, **options)
        return [process.schedule_step(Moment(step, 18, step // 2, 9)) for step in range(18)]

    assert at(0.5, every=3, restarts=True) == [0, 3, 6, 9, 12, 15] * 3
    assert at(0.5, every=3) == list(range(18))
    assert at(0.0, every=3, restarts=True) == list(range(18))  # nothing is updated


def test_it_works_by_layer_on_a_network() -> None:
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    process = Admm(net, task(net, 0.75), every=1)
    train(process, net, lambda w: sum(v.square().sum() for v in w.values()), epochs=4, lr=0.01)
    for name, weight in prunable(net).items():
        assert int(process.mask(name).sum()) == keep_count(weight.numel(), 0.75)


def test_an_interval_without_an_update_is_refused() -> None:
    net = vector(1.0, 2.0)
    optimizer = torch.optim.SGD(net.parameters())
    Admm(net, task(net, 0.5), every=4).check(5, optimizer)
    with pytest.raises(
        UserError, match="every=5 leaves no update in a phase of 5 epochs: give at most 4"
    ):
        Admm(net, task(net, 0.5), every=5).check(5, optimizer)
