"""Networks of torchvision's and timm's by name."""

import sys
from typing import Any

import pytest
import torch
from torch import nn

from advprune.errors import UserError
from advprune.models.library import timm_network, torchvision_network

COLOUR: Any = {
    "num_classes": 10,
    "in_channels": 3,
    "image_size": 32,
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}
GREY: Any = COLOUR | {"in_channels": 1, "mean": [0.5], "std": [0.5]}


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_torchvisions_resnet18_has_its_published_parameters_but_for_the_classifier() -> None:
    net = torchvision_network(name="resnet18", **COLOUR)
    assert parameters(net) == 11_689_512 - 513 * 1000 + 513 * 10


def test_a_grey_image_is_one_of_three_equal_channels() -> None:
    torch.manual_seed(0)
    colour = torchvision_network(name="squeezenet1_1", **COLOUR).eval()
    torch.manual_seed(0)
    grey = torchvision_network(name="squeezenet1_1", **GREY).eval()
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(grey(x), colour(x.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet19", r"none of torchvision's \d+ networks: did you mean .*resnet18"),
        ("googlenet", "returns a tuple while it trains.*model=googlenet"),
    ],
)
def test_what_torchvision_has_not_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        torchvision_network(name=name, **COLOUR)


def test_without_timm_the_sentence_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r'pip install "advprune\[timm\]"'):
        timm_network(name="resnet18", **COLOUR)


def test_timms_networks_are_built_for_the_image() -> None:
    pytest.importorskip("timm", reason="timm is an extra")
    assert parameters(timm_network(name="resnet18", **COLOUR)) == 11_181_642
    net = timm_network(name="vit_tiny_patch16_224", **GREY)
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 10)
