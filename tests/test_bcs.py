"""Bayesian connectivity sampling: what a size computes, and how connections die and are born."""

import itertools

import pytest
import torch
from hooks import see, train
from processes import task
from torch import Tensor, nn

from advprune.masks import keep_count
from advprune.pruners.bcs import BORN, Bcs, draw_layers, first_counts
from advprune.pruners.process import Moment


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 3),
    )


def started(ratio: float = 0.9, seed: int = 0) -> tuple[Bcs, nn.Sequential]:
    net = small()
    process = Bcs(net, task(net, ratio, scope="global", seed=seed))
    with torch.no_grad():
        process.start(net, ())
    return process, net


def test_a_weight_is_its_sign_times_its_size_and_the_dead_have_no_gradient() -> None:
    net = nn.Linear(3, 1, bias=False)
    process = Bcs(net, task(net, 0.0))
    net.weight.data = torch.tensor([[0.5, 0.001, -0.2]])
    process.sign("weight").copy_(torch.tensor([[1.0, -1.0, 1.0]]))
    effective = process.effective("weight", net.weight)
    assert torch.equal(effective, torch.tensor([[0.5, -0.001, 0.0]]))
    (effective * torch.tensor([[2.0, 3.0, 4.0]])).sum().backward()
    assert torch.equal(net.weight.grad, torch.tensor([[2.0, -3.0, 0.0]]))


def test_the_first_masks_are_under_the_total_and_the_first_step_fills_them() -> None:
    process, net = started()
    total = keep_count(144 + 576 + 384, 0.9)
    alive = sum(int((w > 0).sum()) for w in process.weights.values())
    assert 0 < alive <= total
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    with torch.no_grad():
        process.after_step(Moment(0, 9, 0, 3), optimizer)
    assert sum(int((w > 0).sum()) for w in process.weights.values()) == total
    assert process.on_target()


@pytest.mark.parametrize(("kept", "share"), [(0.1, 0.52), (0.01, 0.79)])
def test_the_first_densities_of_a_resnet18(kept: float, share: float) -> None:
    """Convolution, first stage, the others with their shortcuts, classifier: shares as in the authors' code."""
    shapes, inputs = [torch.Size((64, 3, 3, 3))], 64
    for width in (64, 128, 256, 512):
        for block in range(2):
            shapes.append(torch.Size((width, inputs, 3, 3)))
            shapes.append(torch.Size((width, width, 3, 3)))
            if block == 0 and width > 64:
                shapes.append(torch.Size((width, inputs, 1, 1)))
            inputs = width
    shapes.append(torch.Size((10, 512)))
    size = sum(shape.numel() for shape in shapes)
    counts = first_counts(shapes, keep_count(size, 1 - kept), (0.6, 0.2, 0.5))
    assert counts[0] == int(0.6 * 1728)
    assert counts[1] == int(0.2 * 36864)
    assert counts[-1] == int(0.6 * 5120)
    assert sum(counts) / (kept * size) == pytest.approx(share, abs=0.01)


def test_first_densities_that_are_too_many_are_lowered_together() -> None:
    shapes = [torch.Size((10, 10)), torch.Size((5, 20)), torch.Size((4, 25))]
    assert first_counts(shapes, 12, (0.6, 0.2, 0.5)) == [5, 0, 5]


def test_a_run_keeps_the_total_and_no_living_sign_changes() -> None:
    process, net = started(0.8)
    signs: list[dict[str, Tensor]] = []
    total = keep_count(144 + 576 + 384, 0.8)
    counts: list[list[int]] = []

    def watch(now: Moment) -> None:
        weights = process.final_weights()
        counts.append([int(mask.sum()) for mask in process.masks().values()])
        signs.append({name: weight.sign() for name, weight in weights.items()})
        for name, weight in process.weights.items():
            assert torch.equal(process.mask(name), weight > 0)
            assert not weight[~process.mask(name)].any()

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return sum(((w + 0.05).square().sum() for w in weights.values()), torch.zeros(()))

    train(process, net, loss, epochs=5, steps=4, watch=watch, momentum=0.9, weight_decay=0.01)
    assert {sum(layers) for layers in counts} == {total}
    assert counts[0] != counts[-1]  # while layers drift
    for before, after in itertools.pairwise(signs):
        for name in before:
            assert (before[name] * after[name] >= 0).all()


def test_births_follow_the_layers_sizes() -> None:
    sizes = [100, 900, 3000]
    births = draw_layers(sizes, [10**9] * 3, 40_000, torch.Generator().manual_seed(0))
    assert sum(births) == 40_000
    expected = [40_000 * size / 4000 for size in sizes]
    chi2 = sum((b - e) ** 2 / e for b, e in zip(births, expected, strict=True))
    assert chi2 < 13.8  # two degrees of freedom, one in a thousand


def test_births_that_find_no_room_are_elsewhere() -> None:
    drawn = torch.Generator().manual_seed(0)
    assert draw_layers([10, 10], [3, 100], 50, drawn) == [3, 47]
    assert draw_layers([10, 10], [3, 4], 50, drawn) == [3, 4]
    assert draw_layers([10, 10], [3, 4], -1, drawn) == [0, 0]


def test_a_birth_changes_no_output() -> None:
    process, net = started()
    x = torch.rand(4, 2, 8, 8)
    before = see(process, net, x)
    was = process.masks()
    with torch.no_grad():
        process.after_step(Moment(0, 9, 0, 3), torch.optim.SGD(net.parameters(), lr=0.1))
    born = {name: process.mask(name) & ~was[name] for name in was}
    assert any(places.any() for places in born.values())
    for name, places in born.items():
        assert torch.equal(process.weights[name][places], torch.full((int(places.sum()),), BORN))
    assert (see(process, net, x) - before).abs().max() <= 1e-10


def test_a_size_that_fell_to_zero_dies_with_its_momentum() -> None:
    process, net = started()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    with torch.no_grad():
        process.after_step(Moment(0, 9, 0, 3), optimizer)
    for name, weight in process.weights.items():
        dead = ~process.mask(name)
        assert dead.any()
        assert not weight[dead].any()
        assert not optimizer.state[weight]["momentum_buffer"][dead].any()


def test_draws_follow_the_seed_and_the_step() -> None:
    masks = []
    for seed, step in ((1, 0), (1, 0), (2, 0), (1, 5)):
        torch.manual_seed(step)
        process, net = started(seed=seed)
        with torch.no_grad():
            process.after_step(Moment(step, 9, 0, 3), torch.optim.SGD(net.parameters(), lr=0.1))
        masks.append(torch.cat([mask.flatten() for mask in process.masks().values()]))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[3])


def test_noise_moves_the_living_alone() -> None:
    net = small()
    process = Bcs(net, task(net, 0.5, scope="global"), noise=1e-3)
    with torch.no_grad():
        process.start(net, ())
        before = {name: weight.detach().clone() for name, weight in process.weights.items()}
        process._shake(0.1, torch.Generator().manual_seed(0))
    for name, weight in process.weights.items():
        moved = weight.detach() != before[name]
        assert torch.equal(moved, before[name] > 0)


def test_what_a_sparse_network_had_lost_is_not_born() -> None:
    net = small()
    within = {n: torch.rand_like(w) > 0.3 for n, w in net.named_parameters() if w.dim() > 1}
    process = Bcs(net, task(net, 0.6, scope="global", within=within))
    train(process, net, lambda w: sum(v.square().sum() for v in w.values()), epochs=3, steps=3)
    assert all(not (process.mask(name) & ~within[name]).any() for name in within)
    assert process.on_target()
