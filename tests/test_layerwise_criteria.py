"""Criteria by a network's own structure: BatchNorm folded in, and the flow that SynFlow conserves."""

import copy

import pytest
import torch
from networks import KINDS, lively, network
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from advprune.masks import prunable
from advprune.pruners.bnap import bnap, norms_behind
from advprune.pruners.eligible import eligible
from advprune.pruners.scopes import spend
from advprune.pruners.synflow import lets_through, synflow

BATCH = [(torch.rand(2, 3, 32, 32), torch.zeros(2, dtype=torch.long))]


def chain() -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 10, bias=False),
    )
    for norm in (net[1], net[4]):
        nn.init.uniform_(norm.weight, -1.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return net.eval()


def test_bnap_is_the_magnitude_of_the_folded_network() -> None:
    net = chain()
    scores = bnap(net, BATCH)
    for conv, norm in ((0, 1), (3, 4)):
        folded = fuse_conv_bn_eval(net[conv], net[norm]).weight
        assert torch.allclose(scores[f"{conv}.weight"], folded.abs(), rtol=1e-5)
    assert torch.equal(scores["8.weight"], net[8].weight.abs())


def test_bnap_does_not_see_a_scale_that_batchnorm_undoes() -> None:
    net = chain()
    before = bnap(net, BATCH)
    with torch.no_grad():
        net[0].weight *= 7
        net[1].running_mean *= 7
        net[1].running_var.mul_(49).add_(48 * net[1].eps)
        net[3].weight *= 0.5
        net[3].bias *= 0.5
        net[4].weight *= 2
    for name, score in bnap(net, BATCH).items():
        assert torch.allclose(score, before[name], rtol=1e-5), name


def test_bnap_scores_biases_and_finds_each_norm_of_a_residual_network() -> None:
    both = bnap(chain(), BATCH, eligible=lambda model: eligible(model, biases=True))
    assert both["3.bias"].shape == (4,)
    net = lively("resnet18")
    found = norms_behind(net, BATCH[0][0])
    names = {id(module): name for name, module in net.named_modules()}
    assert {conv: names[id(norm)] for conv, norm in found.items()}["conv1"] == "bn1"
    assert len(found) == sum(isinstance(m, nn.Conv2d) for m in net.modules())


def test_bnap_leaves_a_preactivated_branch_without_a_norm_behind_as_it_is() -> None:
    net = lively("preact_resnet18")
    found = norms_behind(net, BATCH[0][0])
    assert any(name.endswith("conv1") for name in found)
    unfolded = [n for n in prunable(net) if n.removesuffix(".weight") not in found]
    assert unfolded
    scores = bnap(net, BATCH)
    assert all(torch.equal(scores[n], prunable(net)[n].abs()) for n in unfolded)


def test_synflow_has_one_sum_in_all_layers_of_a_chain() -> None:
    net = chain()
    sums = [float(score.sum()) for score in synflow(net, BATCH).values()]
    assert sums == pytest.approx([sums[0]] * 3, rel=1e-9)


def test_synflow_is_conserved_at_each_neuron() -> None:
    """What flows into a neuron flows out of it."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5))
    scores = synflow(net, [(torch.rand(1, 3, 2, 2), torch.zeros(1))])
    assert torch.allclose(scores["1.weight"].sum(1), scores["3.weight"].sum(0))
    by_hand = net[3].weight.abs().double() * net[1].weight.abs().double().sum(1)
    assert torch.allclose(scores["3.weight"], by_hand)


@pytest.mark.parametrize("kind", KINDS)
def test_synflow_is_finite_and_reaches_every_layer(kind: str) -> None:
    net = lively(kind)
    shape = (1, 1, 28, 28) if prunable(net)[next(iter(prunable(net)))].shape[1] == 1 else None
    x = torch.rand(shape) if shape else BATCH[0][0]
    scores = synflow(net, [(x, torch.zeros(len(x)))])
    assert scores.keys() == prunable(net).keys()
    assert all(torch.isfinite(score).all() and score.max() > 0 for score in scores.values())


def test_synflow_sees_no_image_and_no_sign() -> None:
    net = network("resnet20", depth=8, width=4)
    scores = synflow(net, BATCH)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for weight in prunable(other).values():
            weight.neg_()
    again = synflow(other, [(1 - BATCH[0][0], BATCH[0][1])])
    assert all(torch.equal(scores[name], again[name]) for name in scores)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_any_kind_lets_a_signal_through(kind: str) -> None:
    net = lively(kind)
    gray = prunable(net)[next(iter(prunable(net)))].shape[1] == 1
    assert lets_through(net, (1, 28, 28) if gray else tuple(BATCH[0][0].shape[1:]))


def test_weights_that_read_channels_nobody_writes_let_nothing_through() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.LayerNorm([2, 2, 2]), nn.Flatten(), nn.Linear(8, 3))
    assert lets_through(net, (1, 2, 2))
    with torch.no_grad():
        net[0].weight[1] = 0
        net[3].weight[:, :4] = 0
        net[1] = nn.BatchNorm2d(2)
    assert not lets_through(net, (1, 2, 2))
    with torch.no_grad():
        net[3].weight[0, 3] = -1e-6
    assert lets_through(net, (1, 2, 2))
    assert net.training


def test_synflow_in_rounds_empties_no_layer_where_one_shot_would() -> None:
    """The largest layer of a chain has the smallest scores; in rounds they grow as it shrinks."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 64), nn.Linear(64, 400), nn.Linear(400, 4))
    batch = [(torch.rand(1, 3, 4, 4), torch.zeros(1))]
    masks = {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable(net).items()}
    for step in range(1, 31):
        with torch.no_grad():
            for name, weight in prunable(net).items():
                weight *= masks[name]
        masks = spend(synflow(net, batch), 1 - 0.002 ** (step / 30), scope="global", within=masks)
    with torch.no_grad():
        for name, weight in prunable(net).items():
            weight *= masks[name]
    assert sum(float(score.sum()) for score in synflow(net, batch).values()) > 0
