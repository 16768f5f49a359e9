"""Criteria by curvature: Fisher and MAD in closed form, by slow references, and what a mask may be."""

import pytest
import torch
import torch.nn.functional as F
from networks import network
from torch import nn

from advprune.errors import UserError
from advprune.masks import prunable
from advprune.pruners.eligible import eligible
from advprune.pruners.fisher import fisher
from advprune.pruners.kfac import Factors, damage, factors, layer_factors, patches
from advprune.pruners.mad import mad, rows_alike, soft_masks


def images(count: int = 6, side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, 3, side, side), torch.arange(count) % 10


def test_fisher_is_the_mean_of_single_images_squared_gradients() -> None:
    net = network("resnet20", depth=8, width=4, image_size=8).eval()
    x, y = images()
    squares = {name: torch.zeros_like(w) for name, w in prunable(net).items()}
    for i in range(len(y)):
        loss = F.cross_entropy(net(x[i : i + 1]), y[i : i + 1])
        for name, g in zip(squares, torch.autograd.grad(loss, prunable(net).values()), strict=True):
            squares[name] += g**2
    for at_once in (1, 4, 16):
        scores = fisher(net, [(x, y)], at_once=at_once)
        for name, weight in prunable(net).items():
            expected = squares[name] / len(y) * weight.detach() ** 2 / 2
            assert torch.allclose(scores[name], expected, rtol=1e-4, atol=1e-12), name


def test_fisher_looks_at_attacked_images_of_so_many_batches() -> None:
    net, seen = nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), []

    def attack(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return 1 - x

    x, y = images()
    scores = fisher(net, [(x, y)] * 3, attack=attack, count=2)
    assert seen == [6, 6]
    assert torch.allclose(scores["1.weight"], fisher(net, [(1 - x, y)])["1.weight"])
    with pytest.raises(UserError, match="count=2 leaves no batch to score on"):
        fisher(net, [], count=2)


def test_damage_by_hand() -> None:
    """A pair of correlated inputs: one weight's share is negative, though the sum is the whole damage."""
    change, inputs = torch.tensor([[1.0, -2.0]]), torch.tensor([[[1.0, 0.9], [0.9, 1.0]]])
    shares = damage(change, Factors(inputs, torch.ones(1)))
    assert torch.allclose(shares, torch.tensor([[-0.4, 1.1]]))
    assert torch.allclose(shares.sum(), (change @ inputs[0] @ change.T).squeeze() / 2)


def test_damage_with_unit_factors_is_half_the_square_and_nothing_without_change() -> None:
    change = torch.randn(4, 6)
    whole = Factors(torch.eye(6)[None], torch.ones(4))
    assert torch.allclose(damage(change, whole), change**2 / 2)
    assert not damage(torch.zeros(4, 6), whole).any()


def test_damage_is_exact_for_least_squares_at_its_optimum() -> None:
    x = torch.randn(50, 5, dtype=torch.float64)
    y = x @ torch.randn(5, 3, dtype=torch.float64) + 0.1 * torch.randn(50, 3, dtype=torch.float64)
    best = torch.linalg.lstsq(x, y).solution.T
    change = torch.randn_like(best)

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return (y - x @ weight.T).square().sum(1).mean() / 2

    shares = damage(change, Factors((x.T @ x / 50)[None], torch.ones(3, dtype=torch.float64)))
    assert torch.allclose(shares.sum(), loss(best - change) - loss(best))


@pytest.mark.parametrize("groups", [1, 2])
def test_factors_of_a_convolution_by_a_slow_reference(groups: int) -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=groups)
    x, slope = torch.randn(5, 4, 7, 7), torch.randn(5, 6, 4, 4)
    found = layer_factors(layer, x, slope)
    padded = F.pad(x, (1, 1, 1, 1))
    for group in range(groups):
        inside = slice(group * 4 // groups, (group + 1) * 4 // groups)
        moments = torch.zeros_like(found.inputs[group])
        for image in padded:
            for row in range(4):
                for column in range(4):
                    window = image[inside, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
                    a = torch.cat([window.flatten(), torch.ones(1)])
                    moments += torch.outer(a, a)
        assert torch.allclose(found.inputs[group], moments / (5 * 16**2), atol=1e-5)
    assert torch.allclose(found.outputs, slope.square().sum((0, 2, 3)) * 16 / 5, rtol=1e-4)
    kernel = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1).view(
        groups, 6 // groups, -1
    )
    product = torch.einsum("goi,bgit->bgot", kernel, patches(layer, x)).reshape(5, 6, 4, 4)
    assert torch.allclose(product, layer(x), atol=1e-5)


def test_factors_of_the_network_use_each_images_own_gradient() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    x, y = images()
    found = factors(net, {}, x, y, {"1": net[1]})["1"]
    slope = net(x).softmax(1) - F.one_hot(y, 10)
    assert torch.allclose(found.outputs, slope.square().mean(0).detach(), atol=1e-6)
    assert torch.allclose(found.inputs[0, :192, :192], x.flatten(1).T @ x.flatten(1) / 6, atol=1e-5)


def test_soft_masks_lower_the_loss_and_stay_between_their_bounds() -> None:
    net = network("resnet20", depth=8, width=4, image_size=8).eval()
    weights = {name: w.detach() for name, w in prunable(net).items()}
    x, y = images()
    masks = soft_masks(net, weights, x, y, steps=20, learning_rate=1.0)
    everything = torch.cat([mask.flatten() for mask in masks.values()])
    assert everything.min() == pytest.approx(1e-4)
    assert everything.max() == 1
    masked = {name: weight * masks[name] for name, weight in weights.items()}
    after = torch.func.functional_call(net, masked, (x,))
    assert F.cross_entropy(after, y) < F.cross_entropy(net(x), y)


def test_mad_of_one_layer_is_the_damage_of_its_mask() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    x, y = images()

    def both(model: nn.Module) -> dict[str, nn.Parameter]:
        return eligible(model, biases=True)

    weights = {name: parameter.detach() for name, parameter in both(net).items()}
    scores = mad(net, [(x, y)], steps=3, eligible=both)
    masks = soft_masks(net, weights, x, y, steps=3, learning_rate=0.1)
    masked = {name: weight * masks[name] for name, weight in weights.items()}
    change = torch.cat([(weights[n] - masked[n]).view(10, -1) for n in ("1.weight", "1.bias")], 1)
    shares = damage(change, factors(net, masked, x, y, {"1": net[1]})["1"])
    assert torch.allclose(scores["1.weight"], shares[:, :-1], atol=1e-8)
    assert torch.allclose(scores["1.bias"], shares[:, -1], atol=1e-8)
    alone = mad(net, [(x, y)] * 4, steps=3, count=1)
    assert alone.keys() == {"1.weight"}


def test_rows_of_the_classifier_lose_the_same_share_under_one_threshold() -> None:
    scores = {"conv": torch.randn(8, 3, 3, 3), "fc": torch.randn(10, 40) * torch.rand(10, 1)}
    alike = rows_alike(scores)
    threshold = scores["conv"].flatten().sort().values[int(0.75 * 216)]
    kept = (alike["fc"] >= threshold).sum(1)
    assert torch.equal(kept, kept[:1].expand(10))
    assert abs(int(kept[0]) - 10) <= 1
    assert torch.equal(alike["fc"].argsort(1), scores["fc"].argsort(1))
