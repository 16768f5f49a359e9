"""Outputs without a unit, many units and images in a pass, are those of a pass for each unit."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advprune.models.cifar_resnet import CifarResNet
from advprune.models.find_sites import block_sites, filter_sites
from advprune.pruners.criteria.ablation import ablated_outputs
from advprune.sites import FilterSite
from benchmarks._digits import PIXELS


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return CifarResNet(depth=14, width=4, **PIXELS).eval().requires_grad_(False)


def slow(net: nn.Module, x: Tensor, site: Any) -> Tensor:
    """One pass for each unit, its map set to zero by a hook."""
    place = site.gate if isinstance(site, FilterSite) else site.branch
    width = net.get_submodule(site.conv).out_channels if isinstance(site, FilterSite) else 1
    outputs = []
    for unit in range(width):

        def silence(module: nn.Module, args: object, out: Tensor, unit: int = unit) -> Tensor:
            out = out.clone()
            out[:, unit if isinstance(site, FilterSite) else slice(None)] = 0
            return out

        handle = net.get_submodule(place).register_forward_hook(silence)
        outputs.append(net(x))
        handle.remove()
    return torch.stack(outputs)


@pytest.mark.parametrize("at_once", [1, 7, 2048])
def test_each_output_is_that_of_the_silenced_network(net: nn.Module, at_once: int) -> None:
    x = torch.rand(35, 1, 8, 8)  # more than are at hand at once
    filters, blocks = filter_sites(net), block_sites(net)
    for site in (filters[0], filters[-1], blocks[1], blocks[-1]):
        part = x[: 35 if at_once > 1 else 3]
        outputs = ablated_outputs(net, part, site, net(part), at_once=at_once)
        torch.testing.assert_close(outputs, slow(net, part, site))
    assert "forward" not in vars(net.get_submodule(filters[0].gate))


def test_a_map_of_zeros_is_not_computed(net: nn.Module) -> None:
    """Without a filter that is silent on an image already, the network says what it said."""
    site, x, seen = filter_sites(net)[1], torch.rand(6, 1, 8, 8), []
    with torch.no_grad():
        net.get_submodule(str(site.norm)).weight[2] = 0
        net.get_submodule(str(site.norm)).bias[2] = -1
    whole = net(x)

    def forward(images: Tensor) -> Tensor:
        seen.append(len(images))
        return net(images)

    outputs = ablated_outputs(net, x, site, whole, at_once=2048, forward=forward)
    assert torch.equal(outputs[2], whole)
    assert sum(seen) <= 3 * len(x)
