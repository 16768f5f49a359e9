"""Bounds against closed forms, brute force and the network itself."""

import importlib.util
from collections import OrderedDict
from functools import partial

import pytest
import torch
from processes import hydras, searching
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.bounds.boxes import Interval, input_region, minimum
from advprune.bounds.fused import Rectified
from advprune.bounds.graph import trace
from advprune.bounds.interval import ibp, logit_bounds
from advprune.bounds.linear import crown, crown_ibp
from advprune.errors import UserError
from advprune.logits import margin as margin_loss
from advprune.models.building_blocks import Normalize
from advprune.models.cifar_resnet import CifarResNet
from advprune.models.hydra_cnn import cnn_small
from advprune.models.mobilenet import MobileNetV2
from advprune.models.preact_resnet import PreActResNet
from advprune.models.resnet import ResNet
from advprune.models.resnet50 import ResNet50
from advprune.models.vgg import VGG16BN, VGGBNDrop
from advprune.models.wide_resnet import WideResNet
from advprune.surgery.subnet import Subnet
from advprune.threat import L2, Linf

SYMBOLIC = partial(crown, slope="parallel")
ALL = {"ibp": ibp, "crown_ibp": crown_ibp, "crown": crown, "symbolic": SYMBOLIC}
SPEC = {
    "num_classes": 10,
    "in_channels": 3,
    "image_size": 16,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.25],
}
NETWORKS = {
    "cnn_small": lambda: cnn_small(**SPEC),
    "option_a": lambda: CifarResNet(depth=8, width=4, **SPEC),
    "option_b": lambda: CifarResNet(depth=8, width=4, shortcut="B", **SPEC),
    "vgg16_bn": lambda: VGG16BN(**SPEC),
    "vgg_bn_drop": lambda: VGGBNDrop(**SPEC),
    "wrn": lambda: WideResNet(depth=10, widen=1, **SPEC),
    "mobilenet_v2": lambda: MobileNetV2(width=0.25, **SPEC),
    "preact": lambda: PreActResNet(width=4, **SPEC),
    "resnet18": lambda: ResNet(depth=18, width=4, **SPEC),
    "resnet50": lambda: ResNet50(blocks=[1, 1, 1, 1], **SPEC),
}


def margins_of(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    logits = net(x)
    return logits.gather(1, y[:, None]) - logits


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    layer.weight.data, layer.bias.data = (
        torch.tensor(weight, dtype=torch.float32),
        torch.tensor(bias, dtype=torch.float32),
    )
    return layer


def images(*pixels: float) -> Tensor:
    return torch.tensor(pixels).view(1, 1, 1, -1)


@pytest.mark.parametrize("bound", ALL.values(), ids=ALL)
def test_t22_a_linear_network_is_bounded_exactly(bound) -> None:
    net = nn.Sequential(nn.Flatten(), linear([[1, -2, 0.5], [0, 1, 1]], [0, 0]))
    found = bound(net, images(0.5, 0.5, 0.5), torch.tensor([0]), threat=Linf(0.1))
    assert found[0].tolist() == pytest.approx([0.0, -1.70])


@pytest.mark.parametrize(("name", "value"), [("ibp", 0.5), ("crown_ibp", 0.4), ("crown", 0.5)])
def test_t23_the_toy_network(name: str, value: float) -> None:
    # crown keeps the better of the linear bound (0.4) and the interval bound (0.5, the true
    # minimum)
    net = nn.Sequential(
        nn.Flatten(),
        linear([[1, -1], [1, 1]], [0, -1]),
        nn.ReLU(),
        linear([[1, 1], [-1, 0]], [0.5, 0]),
    )
    found = ALL[name](net, images(0.6, 0.5), torch.tensor([0]), threat=Linf(0.1))
    assert found[0, 1].item() == pytest.approx(value, abs=1e-6)
    assert margins_of(net, images(0.6, 0.5), torch.tensor([0]))[0, 1].item() == pytest.approx(0.8)


@pytest.mark.parametrize("bound", ALL.values(), ids=ALL)
def test_t26_the_box_is_cut_to_the_pixel_range_not_to_the_images(bound) -> None:
    net = nn.Sequential(nn.Flatten(), linear([[2, 2, 2], [0, 0, 0]], [0, 0]))
    y = torch.tensor([0])
    assert bound(net, images(0.5, 0.5, 0.5), y, threat=Linf(0.1))[0, 1].item() == pytest.approx(2.4)
    assert bound(net, images(0.05, 0.05, 0.05), y, threat=Linf(0.1))[0, 1].item() == pytest.approx(
        0.0
    )


def test_an_l2_ball_is_bounded_by_its_own_norm() -> None:
    net = nn.Sequential(nn.Flatten(), linear([[3, 4], [0, 0]], [0, 0]))
    y = torch.tensor([0])
    for bound in ALL.values():
        assert bound(net, images(0.5, 0.5), y, threat=L2(0.1))[0, 1].item() == pytest.approx(
            3.5 - 5 * 0.1, abs=1e-6
        )
        # at the pixel range the box is the tighter: 3 * 0 + 4 * 0
        assert bound(net, images(0.01, 0.01), y, threat=L2(0.1))[0, 1].item() == pytest.approx(
            0.0, abs=1e-6
        )


def test_the_ball_passes_normalisation_into_the_first_convolution() -> None:
    net = nn.Sequential(Normalize([0.5], [0.25]), nn.Conv2d(1, 2, 3, padding=1)).double()
    x = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    weight = net[1].weight.detach()
    found = logit_bounds(net, x, threat=L2(0.1))
    inner = weight.flatten(1).norm(dim=1) * 0.1 / 0.25  # a pixel with all its neighbours
    torch.testing.assert_close((found.upper - found.lower)[0, :, 1, 1] / 2, inner)
    corner = weight[:, :, 1:, 1:].flatten(1).norm(dim=1) * 0.1 / 0.25  # zero padding adds nothing
    torch.testing.assert_close((found.upper - found.lower)[0, :, 0, 0] / 2, corner)


def small_network(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """One of several random shapes: convolution or not, pooling or not, a residual block or not."""
    torch.manual_seed(seed)
    kind = seed % 4
    if kind == 0:
        layers: list[nn.Module] = [
            nn.Flatten(),
            nn.Linear(16, 8),
            nn.ReLU(),
            nn.Linear(8, 6),
            nn.ReLU(),
            nn.Linear(6, 3),
        ]
    elif kind == 1:
        layers = [
            nn.Conv2d(1, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(12, 3),
        ]
    elif kind == 2:
        layers = [
            nn.Conv2d(1, 3, 3, stride=2, padding=1),
            nn.ReLU6(),
            Residual(3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(3, 3),
        ]
    else:
        layers = [
            nn.Conv2d(1, 3, 2),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=1),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(3, 3),
        ]
    net = nn.Sequential(Normalize([0.4], [0.3]), *layers).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            (
                module.running_mean.normal_(),
                module.running_var.uniform_(0.5, 2),
                module.bias.data.normal_(),
            )
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.data.mul_(2)
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    return net, x, torch.randint(3, (1,))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(width, width, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.relu(self.conv(x))


@pytest.mark.parametrize("norm", [Linf, L2])
@pytest.mark.parametrize(
    "networks", [range(100), pytest.param(range(100, 400), marks=pytest.mark.slow)], ids=len
)
def test_sound_on_random_networks(networks: range, norm: type[Linf] | type[L2]) -> None:
    """A network and an image a seed: no sample of a thousand, and nothing PGD finds, is below a bound."""
    for seed in networks:
        net, x, y = small_network(seed)
        threat = norm([0.02, 0.1, 0.4][seed % 3])
        with torch.no_grad():
            worst = margins_of(net, threat.sample(x.expand(1000, -1, -1, -1)), y.expand(1000)).amin(
                0
            )
            found = pgd(net, x, y, threat=threat, steps=5, rel_step=0.5, loss=margin_loss)
            worst = torch.minimum(worst, margins_of(net, found, y)[0])
            bounds = {name: bound(net, x, y, threat=threat)[0] for name, bound in ALL.items()}
        for name, bound in bounds.items():
            assert (bound <= worst + 1e-9).all(), f"{name} is unsound on network {seed}"
        assert (bounds["crown"] >= bounds["ibp"] - 1e-9).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_read_and_exact_at_eps_zero(name: str) -> None:
    torch.manual_seed(0)
    net = NETWORKS[name]().double()
    with torch.no_grad():
        if name not in ("vgg16_bn", "vgg_bn_drop"):
            net(
                torch.rand(4, 3, 16, 16, dtype=torch.float64)
            )  # running statistics that are not 0 and 1
        net.eval()
        x, y = torch.rand(1, 3, 16, 16, dtype=torch.float64), torch.tensor([3])
        for bound in (ibp, crown_ibp):
            for threat in (Linf(8 / 255), L2(0.5)):
                torch.testing.assert_close(
                    bound(net, x, y, threat=threat, scale=0.0), margins_of(net, x, y)
                )
        least = ibp(net, x, y, threat=Linf(0.01))
        assert (least <= margins_of(net, Linf(0.01).sample(x), y) + 1e-9).all()


def test_t24_all_bounds_are_exact_at_eps_zero() -> None:
    for seed in range(8):
        net, x, y = small_network(seed)
        for bound in ALL.values():
            torch.testing.assert_close(
                bound(net, x, y, threat=Linf(0.3), scale=0.0), margins_of(net, x, y)
            )


def test_brute_force_over_the_corners() -> None:
    """A network that is linear on the ball takes its least margin at a corner; CROWN finds it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    net[1].bias.data.copy_(torch.tensor([5.0, 5.0, -5.0, 5.0, -5.0]))  # no ReLU has an open sign
    x, y = torch.rand(1, 1, 1, 6, dtype=torch.float64), torch.tensor([2])
    region = input_region(x, Linf(0.2))
    ends = torch.stack([region.lower.flatten(), region.upper.flatten()])
    corners = torch.cartesian_prod(*ends.T).view(-1, 1, 1, 6)
    least = margins_of(net, corners, y.expand(len(corners))).amin(0)
    for bound in (crown_ibp, crown, SYMBOLIC):
        torch.testing.assert_close(bound(net, x, y, threat=Linf(0.2))[0], least)


@pytest.mark.parametrize("rows", [1, 7])
def test_rows_change_the_memory_and_nothing_else(rows: int) -> None:
    net, x, y = small_network(1)
    x, y = x.repeat(3, 1, 1, 1) * torch.tensor([1.0, 0.7, 0.4]).view(3, 1, 1, 1), y.repeat(3)
    for bound in (crown_ibp, crown):
        whole = bound(net, x, y, threat=Linf(0.1), rows=None)
        torch.testing.assert_close(bound(net, x, y, threat=Linf(0.1), rows=rows), whole)
        one = torch.cat(
            [bound(net, x[i : i + 1], y[i : i + 1], threat=Linf(0.1), rows=rows) for i in range(3)]
        )
        torch.testing.assert_close(one, whole)


def test_an_interval_ends_at_its_radius() -> None:
    box = Interval(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.0]))
    assert (box.lower.tolist(), box.upper.tolist()) == ([-2.0, -2.0], [4.0, -2.0])


def test_minimum_is_reached() -> None:
    region = input_region(torch.tensor([[0.5, 0.95]]), Linf(0.1))
    assert minimum(torch.tensor([[[1.0, -2.0]]]), region).item() == pytest.approx(0.4 - 2 * 1.0)


def test_masked_networks_are_bounded_as_they_run_and_learn() -> None:
    """Bounds see effective weights; gradients reach scores as HYDRA's rule says, and masked weights."""
    torch.manual_seed(0)
    net = nn.Sequential(
        OrderedDict(flatten=nn.Flatten(), one=nn.Linear(9, 6), relu=nn.ReLU(), two=nn.Linear(6, 3))
    )
    x, y = torch.rand(4, 1, 3, 3), torch.tensor([0, 1, 2, 0])
    subnet = searching(net, 0.5).eval()
    torch.testing.assert_close(
        crown(subnet, x, y, threat=Linf(0.1), scale=0.0), margins_of(subnet, x, y)
    )
    loss = crown_ibp(subnet, x, y, threat=Linf(0.1), beta=0.5).sum()
    loss.backward()
    scored = hydras(subnet).score("one.weight")

    plain = nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 3))
    plain.load_state_dict(dict(zip(plain.state_dict(), subnet.export()[0].values(), strict=True)))
    crown_ibp(plain, x, y, threat=Linf(0.1), beta=0.5).sum().backward()
    rule = net.one.weight * plain[1].weight.grad * scored.detach().sign()
    torch.testing.assert_close(scored.grad, rule)
    assert (
        scored.grad[~subnet.masks["one.weight"]] != 0
    ).any()  # pruned weights learn to come back
    assert net.one.weight.grad is None

    fixed = Subnet(net, subnet.masks)
    ibp(fixed, x, y, threat=Linf(0.1)).sum().backward()
    pruned = ~fixed.masks["one.weight"]
    assert (net.one.weight.grad[pruned] == 0).all()
    assert (net.one.weight.grad[~pruned] != 0).any()


def test_a_trace_follows_its_network() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    before = trace(net)
    assert trace(net) is before
    net[1] = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    torch.testing.assert_close(ibp(net, x, y, threat=Linf(0.1), scale=0.0), margins_of(net, x, y))


class Odd(nn.Module):
    def __init__(self, forward) -> None:
        super().__init__()
        self.linear, self.forward_ = nn.Linear(4, 3), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.forward_(x.flatten(1)))


@pytest.mark.parametrize(
    ("forward", "word"),
    [
        (torch.tanh, "tanh"),
        (lambda x: x * x, "mul"),
        (lambda x: x if x.sum() > 0 else -x, "depends on its values"),
        (lambda x: 1 - x, "sub"),
        (lambda x: x.mean(0, keepdim=True) + x, "mean"),
        (lambda x: x.flip(0), "flip"),
        (lambda x: x[[1, 0]], "getitem"),
        (lambda x: torch.flatten(x, 0), "flatten"),
    ],
)
def test_an_operation_that_is_not_known_is_named(forward, word: str) -> None:
    with pytest.raises(UserError, match=word) as error:
        ibp(Odd(forward), torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), threat=Linf(0.1))
    assert "depends" in str(error.value) or "src/advprune/bounds/ops.py" in str(error.value)


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(1), nn.Dropout(0.5), nn.BatchNorm2d(1, track_running_stats=False)]
)
def test_batch_statistics_prove_nothing(layer: nn.Module) -> None:
    net = nn.Sequential(layer, nn.Flatten(), nn.Linear(4, 3))
    net.train(layer.training if isinstance(layer, nn.Dropout) else True)
    if getattr(layer, "running_mean", 0) is None:
        net.eval()
    with pytest.raises(UserError, match="eval mode"):
        ibp(net, torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), threat=Linf(0.1))


def test_other_mistakes() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    with pytest.raises(UserError, match="8/255"):
        Linf(8)
    with pytest.raises(UserError, match="pixels in"):
        ibp(net, x + 1, y, threat=Linf(0.1))
    with pytest.raises(UserError, match="scale"):
        ibp(net, x, y, threat=Linf(0.1), scale=1.5)
    with pytest.raises(UserError, match="3 classes"):
        ibp(net, x, y + 2, threat=Linf(0.1))
    with pytest.raises(UserError, match="rows"):
        crown(net, x, y, threat=Linf(0.1), rows=0)
    with pytest.raises(UserError, match="beta"):
        crown_ibp(net, x, y, threat=Linf(0.1), beta=2.0)


@pytest.mark.skipif(
    importlib.util.find_spec("auto_LiRPA") is None, reason="auto_LiRPA is not installed"
)
def test_parity_with_auto_lirpa() -> None:
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    torch.manual_seed(0)
    net = cnn_small(**SPEC).eval()
    x, y = (
        0.2 + 0.6 * torch.rand(2, 3, 16, 16),
        torch.tensor([1, 7]),
    )  # pixels off 0 and 1, where it does not cut
    eye = torch.eye(10)
    rows = eye[y].unsqueeze(1) - eye.unsqueeze(0)
    bounded = BoundedModule(net, x, bound_opts={"conv_mode": "matrix"})
    ball = BoundedTensor(x, PerturbationLpNorm(norm=float("inf"), eps=0.01))
    for bound, method in ((ibp, "IBP"), (crown_ibp, "CROWN-IBP")):
        theirs, _ = bounded.compute_bounds(x=(ball,), C=rows, method=method, bound_upper=False)
        torch.testing.assert_close(
            bound(net, x, y, threat=Linf(0.01)), theirs, atol=1e-4, rtol=1e-4
        )


def test_the_derivative_of_relu_on_intervals_is_that_of_its_formula() -> None:
    torch.manual_seed(0)
    centre, radius = torch.randn(2, 40, dtype=torch.float64), torch.rand(2, 40, dtype=torch.float64)
    radius[0, :5] = 0.0  # a point
    pulls = torch.randn(2, 2, 40, dtype=torch.float64)

    def formula(c: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        upper, lower = (c + r).relu(), (c - r).relu()
        return (upper + lower) / 2, (upper - lower) / 2

    answers = []
    for function in (Rectified.apply, formula):
        inputs = (centre.clone().requires_grad_(), radius.clone().requires_grad_())
        values = function(*inputs)
        answers.append((*values, *torch.autograd.grad(values, inputs, tuple(pulls))))
    torch.testing.assert_close(*answers)
    states = [int((centre - radius > 0).sum()), int((centre + radius <= 0).sum())]
    assert min(*states, centre.numel() - sum(states)) > 5  # on, off and open are all there
    assert torch.autograd.gradcheck(
        Rectified.apply, tuple(t.requires_grad_() for t in (centre, radius))
    )
