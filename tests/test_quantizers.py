"""8 bits: scales by hand, zeros that stay, both variants of the same numbers, gradients, and layers that are named."""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.attacks.quantized_variant import attack_variant
from advprune.errors import UserError
from advprune.masks import prunable
from advprune.models.cifar_resnet import CifarResNet
from advprune.models.googlenet import GoogLeNet
from advprune.models.mobilenet import MobileNetV2
from advprune.models.preact_resnet import PreActResNet
from advprune.models.small_cnn import small_cnn
from advprune.models.vgg import VGG16BN, VGGBNDrop
from advprune.quantizers.calibrate import calibrate
from advprune.quantizers.fake_quant import (
    ActivationQuant,
    affine,
    fake_activation,
    fake_weight,
    weight_scales,
)
from advprune.quantizers.int8 import integers
from advprune.quantizers.prepare import quantize
from advprune.quantizers.variants import Quantized
from advprune.threat import Linf

SMALL: dict[str, Any] = {
    "num_classes": 10,
    "in_channels": 3,
    "image_size": 16,
    "mean": [0.5] * 3,
    "std": [0.25] * 3,
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "small_cnn": lambda: small_cnn(**SMALL, widths=[8, 16, 16]),
    "resnet_a": lambda: CifarResNet(**SMALL, depth=8, width=8),
    "resnet_b": lambda: CifarResNet(**SMALL, depth=8, width=8, shortcut="B"),
    "preact": lambda: PreActResNet(**SMALL, width=8),
    "mobilenet_v2": lambda: MobileNetV2(**SMALL, width=0.25),
    "googlenet": lambda: GoogLeNet(
        **SMALL, small_images=False
    ),  # the fourth of the networks that greedy adversarial pruning quantizes
    "vgg16_bn": lambda: VGG16BN(**SMALL | {"image_size": 32}),
    "vgg_bn_drop": lambda: VGGBNDrop(**SMALL),
}


@cache
def used(name: str) -> tuple[nn.Module, Tensor]:
    """A network with batch statistics that are not the initial ones, half of its weights pruned, and images."""
    torch.manual_seed(0)
    net = NETWORKS[name]()
    count, side, passes = (12, 32, 2) if name == "vgg16_bn" else (48, 16, 8)
    x = 0.5 * torch.rand(count, 3, side, side) + 0.5 * torch.rand(count, 3, 1, 1)
    net.train()
    with torch.no_grad():
        for _ in range(passes):
            net(x)
        for weight in prunable(net).values():
            weight.mul_(torch.rand_like(weight) < 0.5)
    return net.eval(), x


def quantized(name: str, **options: Any) -> tuple[nn.Module, Any, Tensor]:
    net, x = used(name)
    fake = quantize(net, **options)
    calibrate(fake, [x])
    return net, fake.eval(), x


def test_weights_are_symmetric_per_channel() -> None:
    """Fact 12 of the GAP paper."""
    weight = torch.tensor([[1.0, -0.5], [0.1, 0.2]])
    torch.testing.assert_close(weight_scales(weight), torch.tensor([1 / 127.5, 0.2 / 127.5]))
    assert weight_scales(weight).tolist() == pytest.approx([0.007843, 0.001569], abs=1e-6)
    assert torch.equal(weight_scales(torch.zeros(2, 3)), torch.ones(2))
    torch.testing.assert_close(fake_weight(weight)[0], torch.tensor([127 / 127.5, -64 / 127.5]))
    assert fake_weight(torch.tensor([[0.0, 3.0, 0.0]])).eq(0).tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"),
    [(0.0, 6.0, 0.047244, 0), (-1.0, 1.0, 2 / 127, 64), (2.0, 6.0, 0.047244, 0), (0, 0, 1, 0)],
)
def test_activations_are_affine(low: float, high: float, scale: float, zero: int) -> None:
    """Fact 12 of the GAP paper."""
    found = affine(torch.tensor(float(low)), torch.tensor(float(high)), 127)
    assert found[0].item() == pytest.approx(scale, abs=1e-6)
    assert found[1].item() == zero
    assert fake_activation(torch.zeros(1), *found).item() == 0


def test_gradients_go_straight_through_but_not_past_the_end() -> None:
    x = torch.tensor([-1.0, 0.0, 0.33, 5.0, 99.0], requires_grad=True)
    scale, zero = affine(
        torch.tensor(-0.6), torch.tensor(6.0), 110
    )  # steps of 0.06; 10 of them below zero
    out = fake_activation(x, scale, zero)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    torch.testing.assert_close(out.detach(), torch.tensor([-0.6, 0.0, 0.36, 4.98, 14.7]))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ranges", ["static", "dynamic"])
def test_many_levels_are_the_float_network(name: str, ranges: str) -> None:
    """With the numbers' own width out of the way, folding and rewiring must not change what is computed."""
    net, fake, x = quantized(name, ranges=ranges, levels=255)
    weights = {n: w for n, w in fake.named_parameters() if n.endswith("weight") and w.dim() > 1}
    with torch.no_grad():
        for module in fake.modules():
            if isinstance(module, ActivationQuant):
                module.forward = lambda x: x  # type: ignore[method-assign]
                module.ranges = "dynamic"  # biases stay in float
        exact = {n: w.clone() for n, w in weights.items()}
        for n, w in weights.items():
            assert torch.equal(w == 0, exact[n] == 0)
            w.copy_(fake_weight(w))
        twin_gap = (fake(x) - net(x)).abs().max() / net(x).abs().max()
    assert twin_gap < 0.05
    assert set(prunable(fake)) == set(prunable(net))


@pytest.mark.parametrize("name", NETWORKS)
def test_zeros_stay_zeros(name: str) -> None:
    net, fake, _ = quantized(name)
    whole = integers(fake)
    for weight_name, weight in prunable(net).items():
        pruned = weight == 0
        assert pruned.any()
        assert (whole[weight_name][pruned] == 0).all()
        assert whole[weight_name].dtype == torch.int8


def test_int8_takes_a_quarter() -> None:
    net, fake, _ = quantized("resnet_b")
    stored = sum(t.numel() * t.element_size() for t in integers(fake).values())
    weights = sum(w.numel() for w in prunable(net).values())
    assert weights < stored < 1.3 * weights + 2000


def test_the_network_is_left_as_it_was() -> None:
    net = copy.deepcopy(used("resnet_a")[0])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.train()
    quantize(net)
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(isinstance(module, ActivationQuant) for module in net.modules())


def test_a_prediction_belongs_to_its_image() -> None:
    for ranges in ("static", "dynamic"):
        _, fake, x = quantized("resnet_b", ranges=ranges)
        with torch.no_grad():
            torch.testing.assert_close(fake(x)[3:5], fake(x[3:5]), atol=1e-4, rtol=1e-4)


def test_static_ranges_are_those_that_were_seen() -> None:
    _, fake, x = quantized("small_cnn")
    first = fake.get_submodule("quantizers.q0")
    assert first.low.item() == pytest.approx(((x - 0.5) / 0.25).min().item())
    assert first.high.item() == pytest.approx(((x - 0.5) / 0.25).max().item())
    relu = fake.get_submodule("quantizers.q1")
    assert relu.numbers()[1].item() == 0  # after a ReLU zero is the lowest step


def test_attacks_see_its_gradient() -> None:
    net, fake, x = quantized("resnet_b")
    y = fake(x).argmax(1)
    x_adv = pgd(fake, x, y, threat=Linf(0.1), steps=5, rel_step=0.5)
    loss = F.cross_entropy(fake(x), y)
    assert F.cross_entropy(fake(x_adv), y) > loss + 0.01
    del net


def test_attacks_go_through_the_face_they_name() -> None:
    net, fake, x = quantized("small_cnn")
    faced = Quantized(nn.Identity(), float_twin=net, fake_quant=fake)
    seen: list[nn.Module] = []

    def spy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append(model)
        return x

    y = torch.zeros(len(x), dtype=torch.long)
    attack_variant(faced, x, y, variant="float_twin", attack=spy)
    attack_variant(faced, x, y, variant="fake_quant", attack=spy)
    attack_variant(net, x, y, variant="fake_quant", attack=spy)
    assert seen[0] is net
    assert seen[1] is fake
    assert seen[2] is net
    assert torch.equal(faced(x), x)


class Odd(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.conv, self.odd = nn.Conv2d(3, 4, 3), layer

    def forward(self, x: Tensor) -> Tensor:
        return self.odd(self.conv(x)).flatten(1)


def test_what_cannot_be_quantized_is_named() -> None:
    with pytest.raises(
        UserError, match="layer odd is a GELU, which cannot be quantized; AdaptiveAvgPool2d, "
    ):
        quantize(Odd(nn.GELU()))
    with pytest.raises(UserError, match="layer flatten is a flatten, which"):
        quantize(Odd(nn.ReLU()))
    with pytest.raises(
        UserError, match="levels=256 is not possible: it must be at least 1 and at most 255"
    ):
        quantize(NETWORKS["small_cnn"](), levels=256)
    with pytest.raises(UserError, match="reached no quantizer"):
        calibrate(quantize(NETWORKS["small_cnn"]()), [])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("ranges", ["static", "dynamic"])
def test_both_faces_say_the_same(name: str, ranges: str) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra quant")
    pytest.importorskip("onnx", reason="needs the extra quant")
    from advprune.quantizers.int8 import Int8

    _, fake, x = quantized(name, ranges=ranges)
    with torch.no_grad():
        twin, whole = fake(x), Int8(fake)(x)
    spread = (twin - twin.mean(1, keepdim=True)).abs().max()
    assert (twin.argmax(1) == whole.argmax(1)).float().mean() >= 0.95
    assert (twin - whole).abs().mean() < 0.02 * spread


def test_a_bias_beyond_int32_is_cut_off_on_both_faces() -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra quant")
    pytest.importorskip("onnx", reason="needs the extra quant")
    from advprune.quantizers.int8 import Int8

    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 3))
    with torch.no_grad():
        net[1].weight.fill_(1e-9)  # what goes into the last layer is as good as nothing
        net[1].bias.zero_()
        net[3].weight.fill_(1e-3)
        net[3].bias.copy_(torch.tensor([1.0, -2.0, 1e-10]))
    x = torch.rand(8, 1, 2, 2)
    fake = quantize(net)
    calibrate(fake, [x])
    twin, whole = fake(x), Int8(fake)(x)
    assert 0 < twin[0, 0] < 1e-3  # 2**30 steps are no more
    torch.testing.assert_close(whole, twin, rtol=1e-3, atol=0)


def test_int8_has_the_gradient_of_its_twin() -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra quant")
    pytest.importorskip("onnx", reason="needs the extra quant")
    from advprune.quantizers.int8 import Int8

    _, fake, x = quantized("resnet_b")
    whole, x = Int8(fake), x[:4].requires_grad_(True)
    answer = whole(x)
    with torch.no_grad():
        torch.testing.assert_close(answer.detach(), whole(x.detach()), atol=1e-5, rtol=0)
    ours, theirs = (
        torch.autograd.grad(out.sum(1).square().sum(), x)[0] for out in (answer, fake(x))
    )
    torch.testing.assert_close(ours / ours.norm(), theirs / theirs.norm(), atol=0.02, rtol=0)


def test_the_real_resnet20_in_8_bits(shared: Path) -> None:
    """A published network on images it was trained on: within half a point of its float self, on both variants."""
    import numpy as np

    from advprune.models import foreign

    pixels = {"image_size": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    net = CifarResNet(**SMALL | pixels, depth=20)
    foreign.load(net, shared / "weights" / "resnet20-12fca82f.th")
    net.eval()
    images = np.load(shared / "data" / "cifar10_train_4k.npz")["images"][:500]
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    fake = quantize(net)
    assert calibrate(fake, [x[256:]]) == 30
    with torch.no_grad():
        assert (net(x[:256]).argmax(1) == fake(x[:256]).argmax(1)).float().mean() >= 0.98
