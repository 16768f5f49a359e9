"""HYDRA, fact by fact: numbers worked out by hand, and laws of the gradient; T1 to T15 and T29 of our reading notes.

T2 to T6 are one linear layer, 4 -> 1, with w = [.1, -.5, .3, -.2] and x = [1, 2, 3, 4].
"""

import pytest
import torch
import torch.nn.functional as F
from processes import at, hydras, lwm, scaled, searching, task, trained
from torch import nn

from advprune.masks import authors_count, keep_count, prunable, sparsity
from advprune.pruners import scopes
from advprune.pruners.learned_scores import initial_scores
from advprune.pruners.magnitude import magnitude
from advprune.surgery.subnet import Subnet, apply

W = [0.1, -0.5, 0.3, -0.2]
X = torch.tensor([[1.0, 2.0, 3.0, 4.0]])


def linear(weights: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weights), 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights]))
        layer.bias.zero_()
    return layer


def convnet(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 10),
    )


def batch(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(12, 3, 8, 8, generator=generator), torch.randint(
        0, 10, (12,), generator=generator
    )


def step(subnet: Subnet, optimizer: torch.optim.Optimizer, seed: int = 1) -> None:
    x, y = batch(seed)
    if subnet.process is not None:
        hydras(subnet).choose(at(0))
    subnet.refresh()
    optimizer.zero_grad()
    F.cross_entropy(subnet(x), y).backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("keep", "kept"), [(0.1, (1, 10, 100, 44, 256)), (0.05, (1, 5, 50, 22, 128))]
)
def test_t1_counts_of_the_authors_code(keep, kept):
    assert tuple(authors_count(n, keep) for n in (10, 100, 1000, 432, 2560)) == kept


def test_t1_at_99_percent_and_where_floats_truncate():
    assert [authors_count(n, 0.01) for n in (10, 100, 1000, 432, 2560)] == [1, 1, 10, 5, 26]
    assert (authors_count(100, 0.9), keep_count(100, 0.1)) == (91, 90)


def test_t2_scaled_scores():
    scores = scaled(linear(W))["weight"]
    torch.testing.assert_close(
        scores, torch.tensor([[0.2449, -1.2247, 0.7348, -0.4899]]), atol=5e-5, rtol=0
    )


def test_t3_the_mask_is_the_two_largest():
    masks = lwm(linear(W), 0.5)
    assert masks["weight"].tolist() == [[False, True, True, False]]


def test_t4_the_output_sees_only_kept_weights():
    assert searching(linear(W), 0.5)(X).item() == pytest.approx(-0.1)


def test_t5_every_score_has_a_gradient_also_of_a_pruned_weight():
    subnet = searching(linear(W), 0.5)
    subnet(X).sum().backward()
    torch.testing.assert_close(
        hydras(subnet).score("weight").grad, torch.tensor([[0.1, 1.0, 0.9, 0.8]])
    )


def test_t6_a_score_of_zero_is_dead():
    subnet = searching(linear([1.0] * 4), 0.5, {"weight": torch.tensor([[0.0, -1.0, 1.0, 0.5]])})
    subnet(X).sum().backward()
    assert hydras(subnet).score("weight").grad.tolist() == [[0.0, -2.0, 3.0, 4.0]]


@pytest.mark.parametrize(
    ("shape", "largest"), [((3, 64), 0.47140), ((64, 64), 0.10206), ((512, 512), 0.03608)]
)
def test_t7_the_largest_scaled_score_is_the_kaiming_bound(shape, largest):
    conv = nn.Conv2d(*shape, 3)
    score = scaled(conv)["weight"].abs().max().item()
    assert score == pytest.approx(largest, abs=5e-6)
    bound = nn.init.calculate_gain("relu") * 3**0.5 / (shape[0] * 9) ** 0.5
    assert score == pytest.approx(bound, rel=1e-6)


def test_t7_fan_in_of_a_depthwise_convolution_is_its_kernel():
    scores = scaled(nn.Conv2d(8, 8, 3, groups=8))["weight"]
    assert scores.abs().max().item() == pytest.approx((6 / 9) ** 0.5)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.99])
def test_t8_the_first_mask_is_that_of_magnitude_whatever_the_scale(ratio):
    net = convnet()
    masks = lwm(net, ratio)
    for name, weight in prunable(net).items():
        largest = (
            weight.detach()
            .abs()
            .flatten()
            .sort(descending=True)
            .indices[: keep_count(weight.numel(), ratio)]
        )
        assert sorted(largest.tolist()) == masks[name].flatten().nonzero().flatten().tolist()
    with torch.no_grad():
        for weight in prunable(net).values():
            weight.mul_(4)
    again = lwm(net, ratio)
    assert all(torch.equal(again[name], masks[name]) for name in masks)


def test_t9_the_gradient_of_scores_is_weight_times_gradient_times_sign():
    net, (x, y) = convnet(), batch()
    scores = initial_scores(prunable(net), init="kaiming", seed=3)
    masks = task(net, 0.7).masks({name: score.abs() for name, score in scores.items()})
    effective = {n: (w.detach() * masks[n]).requires_grad_() for n, w in prunable(net).items()}
    F.cross_entropy(torch.func.functional_call(net, effective, (x,)), y).backward()
    subnet = searching(convnet(), 0.7, scores)
    F.cross_entropy(subnet(x), y).backward()
    for name, weight in prunable(net).items():
        expected = weight.detach() * effective[name].grad * scores[name].sign()
        torch.testing.assert_close(hydras(subnet).score(name).grad, expected)
        assert expected[~masks[name]].abs().max() > 0


def test_t10_fine_tuning_masks_the_gradient_and_not_the_weight():
    net, (x, y) = convnet(), batch()
    masks = lwm(net, 0.7)
    effective = {n: (w.detach() * masks[n]).requires_grad_() for n, w in prunable(net).items()}
    F.cross_entropy(torch.func.functional_call(net, effective, (x,)), y).backward()
    subnet = Subnet(convnet(), masks)
    F.cross_entropy(subnet(x), y).backward()
    for name, weight in prunable(subnet.net).items():
        torch.testing.assert_close(weight.grad, masks[name] * effective[name].grad)
        assert not weight.grad[~masks[name]].any()


def test_t10_outputs_do_not_see_pruned_weights():
    net, (x, _) = convnet(), batch()
    masks = lwm(net, 0.7)
    subnet = Subnet(net, masks).eval()
    before = subnet(x)
    with torch.no_grad():
        for name, weight in prunable(net).items():
            weight[~masks[name]] = 7.0
    assert torch.equal(subnet(x), before)


def test_t11_a_mask_flips_and_the_loss_falls():
    net = linear([1.0, 0.9])
    subnet = searching(net, 0.5)
    optimizer = torch.optim.SGD(trained(subnet), lr=0.1)
    x, target = torch.tensor([[1.0, -1.0]]), torch.tensor([[-1.0]])
    torch.testing.assert_close(
        hydras(subnet).score("weight").detach(), torch.tensor([[1.7321, 1.5588]]), atol=5e-5, rtol=0
    )
    loss = F.mse_loss(subnet(x), target)
    assert loss.item() == pytest.approx(4)
    loss.backward()
    torch.testing.assert_close(hydras(subnet).score("weight").grad, torch.tensor([[4.0, -3.6]]))
    optimizer.step()
    torch.testing.assert_close(
        hydras(subnet).score("weight").detach(), torch.tensor([[1.3321, 1.9188]]), atol=5e-5, rtol=0
    )
    hydras(subnet).choose(at(0))
    output = subnet(x)
    assert output.item() == pytest.approx(-0.9)
    assert F.mse_loss(output, target).item() == pytest.approx(0.01)
    assert subnet.masks["weight"].tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("bn", "affine_moves", "statistics_move"),
    [("train", True, True), ("freeze_affine", False, True), ("freeze_all", False, False)],
)
def test_t12_a_search_step_moves_scores_and_only_the_normalisation_it_may(
    bn, affine_moves, statistics_move
):
    subnet = searching(convnet(), 0.9, bn=bn).train()
    before = {name: value.clone() for name, value in subnet.state_dict().items()}
    # parameters() and not trainable(): what is frozen must have no gradient even for a careless
    # optimizer
    step(subnet, torch.optim.SGD(subnet.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4))
    moved = {
        name for name, value in subnet.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {f"process._scores.{n}:weight" for n in (0, 3, 7)} <= moved
    assert not {"net.0.weight", "net.0.bias", "net.3.weight", "net.7.weight", "net.7.bias"} & moved
    assert ({"net.1.weight", "net.1.bias", "net.4.weight"} <= moved) is affine_moves
    assert ("net.1.running_mean" in moved) is statistics_move
    count = sum(parameter.numel() for parameter in trained(subnet))
    assert count == sum(w.numel() for w in prunable(subnet.net).values()) + (
        48 if affine_moves else 0
    )


def test_t13_a_pruned_weight_only_decays():
    net = convnet()
    masks = lwm(net, 0.9)
    before = {name: weight.detach().clone() for name, weight in prunable(net).items()}
    subnet = Subnet(net, masks)
    step(subnet, torch.optim.SGD(trained(subnet), lr=0.1, weight_decay=1e-4))
    for name, weight in prunable(net).items():
        pruned = ~masks[name]
        torch.testing.assert_close(
            weight[pruned], before[name][pruned] * 0.99999, rtol=2e-7, atol=0
        )
        assert not torch.equal(weight[masks[name]], before[name][masks[name]] * 0.99999)


def test_t14_ratio_zero_is_the_dense_network():
    net, (x, _) = convnet().eval(), batch()
    dense = net(x)
    subnet = searching(net, 0.0)
    assert all(mask.all() for mask in subnet.masks.values())
    assert torch.equal(subnet(x), dense)


@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.99])
def test_t15_the_exported_network_equals_the_masked_one(ratio):
    subnet = searching(convnet(), ratio).eval()
    state, masks = subnet.export()
    plain = convnet(seed=5).eval()
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(batch()[0]), subnet(batch()[0]), atol=1e-6, rtol=0)
    zeros = {name: int((weight == 0).sum()) for name, weight in prunable(plain).items()}
    assert zeros == {
        name: mask.numel() - keep_count(mask.numel(), ratio) for name, mask in masks.items()
    }
    applied = apply(convnet(), masks)
    assert sparsity(prunable(applied)) == sparsity(masks)


def test_t29_lwm_is_fine_tuning_under_the_first_mask_which_never_moves():
    net = convnet()
    first = lwm(net, 0.9)
    masks = scopes.spend(magnitude(net, []), 0.9, scope="layer")
    assert all(torch.equal(first[name], masks[name]) for name in masks)
    subnet = Subnet(net, masks)
    optimizer = torch.optim.SGD(trained(subnet), lr=0.1, momentum=0.9, weight_decay=1e-4)
    for seed in range(4):
        step(subnet, optimizer, seed)
    assert all(torch.equal(subnet.masks[name], masks[name]) for name in masks)
    grown = lwm(net, 0.9)
    assert any(
        not torch.equal(grown[name], masks[name]) for name in masks
    )  # so constancy was not for want of change
