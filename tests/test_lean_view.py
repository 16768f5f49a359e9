"""The attack's lean view of a chain: the same logits and slopes, narrower; and the networks that have none."""

import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from processes import searching
from torch import Tensor, nn

from advprune.attacks import pgd
from advprune.attacks.fast import chain
from advprune.attacks.fast.chain import Chain, lean_view
from advprune.distributed.sharding import seed_step
from advprune.frozen import StaysInTraining
from advprune.logits import cross_entropy, kl
from advprune.masks import prunable, top_k
from advprune.models.building_blocks import Normalize
from advprune.models.hydra_cnn import cnn_small
from advprune.models.small_cnn import small_cnn
from advprune.objectives.trades import trades
from advprune.runtime.speed import Mixed, compiling
from advprune.surgery.subnet import Subnet
from advprune.threat import L2, Linf

PIXELS: Any = {"num_classes": 10, "in_channels": 1, "image_size": 8, "mean": [0.3], "std": [0.4]}


@pytest.fixture(autouse=True)
def dense_networks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """See every network as a chain that can be one, not only where that is faster."""
    monkeypatch.setattr(chain, "SPARSE", 0.0)


ATTACK = partial(pgd.pgd, threat=Linf(0.15), steps=7, loss=kl, start="gaussian")


def small(widths: tuple[int, int, int] = (6, 8, 8)) -> nn.Sequential:
    """The default network, narrow, with biases of both signs."""
    torch.manual_seed(0)
    net = small_cnn(widths=list(widths), **PIXELS)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.bias.uniform_(-0.3, 0.3)
    return net


def settled() -> nn.Sequential:
    """Filters that are never positive, that are a positive constant, and that read nothing but such."""
    net = small()
    with torch.no_grad():
        net.conv1.weight[[1, 4, 5]] = 0.0
        net.conv1.bias[[1, 4, 5]] = torch.tensor([-0.1, 0.4, 0.2])
        net.conv1.weight[2], net.conv1.bias[2] = net.conv1.weight[2].abs().neg(), -3.0
        net.conv2.weight[3, [0, 2, 3]], net.conv2.bias[3] = 0.0, 0.7  # varies at the border alone
        net.conv2.weight[6], net.conv2.bias[6] = 0.0, 0.5
        net.conv3.weight[:3, [0, 1, 2, 4, 5, 7]] = 0.0
    return net


def unpadded() -> nn.Sequential:
    """Two channels of pixels, a chain within the chain, rows that a convolution does not read."""
    torch.manual_seed(1)
    inner = nn.Sequential(nn.Conv2d(2, 5, 3, bias=False), nn.ReLU())
    outer = nn.Sequential(nn.Conv2d(5, 6, 2, stride=2, padding=1), nn.Dropout())
    return nn.Sequential(inner, nn.Identity(), outer, nn.ReLU(), nn.Flatten(), nn.Linear(96, 4))


def normalized() -> nn.Sequential:
    """With BatchNorm, which depends on the mode."""
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4)
    )


def masked(ratio: float) -> Subnet:
    """Pruned at random, so that many filters keep nothing."""
    net = small((12, 16, 16))
    scores = {name: torch.rand_like(weight) for name, weight in prunable(net).items()}
    return Subnet(net, {n: top_k(s, round((1 - ratio) * s.numel())) for n, s in scores.items()})


def hidden() -> nn.Sequential:
    """Units of a hidden linear layer without weights, one with a positive bias, one with a negative."""
    net = cnn_small(**PIXELS)
    first = net[-3]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        first.weight[:2], first.bias[0], first.bias[1] = 0.0, 0.6, -0.6
    return net


def dead() -> nn.Sequential:
    """No pixel reaches the logits."""
    net = small()
    with torch.no_grad():
        net.conv2.weight.zero_()
    return net


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "dense": small,
    "settled": settled,
    "unpadded": unpadded,
    "hidden layers": hidden,
    "masked at 0.9": lambda: masked(0.9),
    "masked at 0.99": lambda: masked(0.99),
    "searched": lambda: searching(small()),
    "dead": dead,
    "linear": lambda: nn.Sequential(Normalize([0.3], [0.4]), nn.Flatten(), nn.Linear(64, 10)),
}


def images(name: str, count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(
        count, 1 + (name in ("unpadded", "normalized")), 8, 8, generator=generator
    ).double()


def slope(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of some function of them."""
    point = x.clone().requires_grad_()
    logits = model(point)
    weights = torch.linspace(-1, 2, logits.numel(), dtype=x.dtype).view_as(logits)
    (grad,) = torch.autograd.grad((weights * logits.square()).sum(), point, allow_unused=True)
    return logits.detach(), torch.zeros_like(x) if grad is None else grad


@pytest.mark.parametrize("largest", [0, 1 << 17], ids=["convolutions", "matrices"])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_slopes_are_the_networks(
    name: str, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "MATRIX", largest)
    model, x = NETWORKS[name]().double().eval(), images(name)
    view = lean_view(model, x)
    assert isinstance(view, Chain)
    for found, expected in zip(slope(view, x), slope(model, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(view(x), model(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_random_sparse_chains(seed: int) -> None:
    """Strides, paddings, kernels and densities at random; a channel that is left out wrongly moves the logits."""
    draw = torch.Generator().manual_seed(seed)

    def pick(*options: int) -> int:
        return options[int(torch.randint(len(options), (), generator=draw))]

    layers: list[nn.Module] = [Normalize([0.2, 0.6], [0.3, 0.5])]
    channels = 2
    for _ in range(pick(1, 2, 3)):
        layers.append(
            nn.Conv2d(channels, 7, pick(1, 2, 3), stride=pick(1, 2), padding=pick(0, 1, 2))
        )
        layers.append(nn.ReLU())
        channels = 7
    size = nn.Sequential(*layers)(torch.zeros(1, 2, 8, 8)).numel()
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, 9), nn.ReLU(), nn.Linear(9, 3))
    kept = pick(3, 10, 50) / 100
    with torch.no_grad():
        for parameter in net.parameters():
            values = torch.randn(parameter.shape, generator=draw)
            here = torch.rand(parameter.shape, generator=draw) < (
                1 if parameter.dim() == 1 else kept
            )
            parameter.copy_(values * here)
    net, x = net.double().eval(), torch.rand(4, 2, 8, 8, generator=draw).double()
    for found, expected in zip(slope(lean_view(net, x), x), slope(net, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def widths(view: nn.Module) -> list[int]:
    assert isinstance(view, Chain)
    return [len(layer.weight) for layer in view.layers if hasattr(layer, "weight")]


def test_what_varies_stays_and_the_rest_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "MATRIX", 0)
    x = torch.rand(3, 1, 8, 8)
    assert widths(lean_view(small().eval(), x)) == [6, 8, 8, 10]
    # of conv1 three are constant and one is never positive; of conv2 two read nothing that varies
    # and a third of conv3's read these two alone
    assert widths(lean_view(settled().eval(), x)) == [2, 6, 5, 10]


@pytest.mark.parametrize(("bias", "kept"), [(-1.9, 2), (-2.1, 1)])
def test_a_filter_stays_if_one_image_switches_it_on(bias: float, kept: int) -> None:
    """Weights 2 and -5 on two pixels: at most 2, where the first is white and the second black."""
    net = nn.Sequential(nn.Conv2d(1, 2, (1, 2)), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        net[0].weight[1, 0, 0] = torch.tensor([2.0, -5.0])
        net[0].weight[0], net[0].bias[0], net[0].bias[1] = 1.0, 0.0, bias
    x = torch.tensor([1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    view = lean_view(net.eval(), x)
    assert isinstance(view, Chain)
    torch.testing.assert_close(view(x), net(x))
    assert view.layers[-1].weight.shape[1] == 2 * kept  # type: ignore[attr-defined]


def test_a_spoilt_weight_spoils_the_logits() -> None:
    net = small()
    with torch.no_grad():
        net.conv2.weight[0, 0, 0, 0] = torch.nan
    x = torch.rand(2, 1, 8, 8)
    assert lean_view(net.eval(), x)(x).isnan().all()


class Sub(nn.Sequential):
    """May do something else."""


def watched(net: nn.Module) -> nn.Module:
    net[2].register_forward_hook(lambda *_: None)  # type: ignore[index]
    return net


def replaced(net: nn.Module) -> nn.Module:
    net.forward = lambda x: x.flatten(1)  # type: ignore[method-assign]
    return net


NO_VIEW: dict[str, Callable[[], nn.Module]] = {
    "bf16": lambda: Mixed(small()),
    "bf16 in train mode": lambda: StaysInTraining(Mixed(small())),
    "hook": lambda: watched(small()),
    "another forward": lambda: replaced(small()),
    "subclass": lambda: Sub(*small()),
    "BatchNorm": normalized,
    "dropout in train mode": lambda: StaysInTraining(unpadded().train()),
    "groups": lambda: nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.Flatten()),
    "reflected": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, 1, 1, padding_mode="reflect"), nn.Flatten()
    ),
    "pooled": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(6), nn.Flatten()),
    "linear on rows": lambda: nn.Sequential(nn.Linear(8, 3), nn.Flatten()),
    "no layer": lambda: nn.Sequential(),
    "two in a row": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Linear(4, 4)),
    "ReLU at the end": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU()),
}


@pytest.mark.parametrize("name", NO_VIEW)
def test_other_networks_are_attacked_as_they_are(name: str) -> None:
    model = NO_VIEW[name]()
    model.eval()
    assert lean_view(model, torch.rand(2, 1, 8, 8)) is model


@pytest.mark.parametrize(("ratio", "seen"), [(0.0, False), (0.8, False), (0.9, True), (0.99, True)])
def test_only_a_network_of_few_weights_is_seen_so(
    ratio: float, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they are masked, or zero themselves: a dense network is attacked as it always was."""
    monkeypatch.undo()
    model, x = masked(ratio).eval(), torch.rand(2, 1, 8, 8)
    assert isinstance(lean_view(model, x), Chain) is seen
    with torch.no_grad():
        for name, mask in model.masks.items():
            model.net.get_parameter(name).mul_(mask)
    assert isinstance(lean_view(model.net, x), Chain) is seen


def test_a_compiled_network_is_attacked_as_it_is() -> None:
    net, x = small().eval(), torch.rand(2, 1, 8, 8)
    with compiling("default"):
        assert lean_view(net, x) is net
    assert lean_view(net, x[:0]) is net


@pytest.mark.parametrize("threat", [Linf(0.15), L2(0.5)], ids=["linf", "l2"])
@pytest.mark.parametrize("name", ["settled", "masked at 0.99", "unpadded"])
def test_the_attack_is_the_plain_one(
    name: str, threat: Linf | L2, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = NETWORKS[name]().double().train(), images(name)
    y = torch.arange(len(x)) % 4

    def attacked() -> Tensor:
        seed_step(0, "attack", 0)
        return pgd.pgd(model, x, y, threat=threat, steps=7, loss=cross_entropy, restarts=2)

    lean = attacked()
    monkeypatch.setattr(pgd, "lean_view", lambda model, x: model)
    torch.testing.assert_close(lean, attacked(), rtol=0, atol=1e-10)
    assert not torch.equal(lean, x)
    assert model.training


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("name", ["dense", "masked at 0.9", "searched"])
def test_a_training_step_is_the_plain_one(
    name: str, double: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = NETWORKS[name](), images(name, 16)
    model, x = (model.double(), x) if double else (model, x.float())
    y = torch.arange(len(x)) % 10

    def stepped() -> list[Tensor]:
        seed_step(0, "train", 0)
        model.zero_grad()
        loss = trades(model.train(), x, y, progress=0.0, attack=ATTACK)
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    lean = stepped()
    monkeypatch.setattr(pgd, "lean_view", lambda model, x: model)
    monkeypatch.setattr("advprune.objectives.trades.ignores_mode", lambda model: False)
    accuracy = {"rtol": 1e-10, "atol": 1e-12} if double else {"rtol": 1e-4, "atol": 1e-5}
    for found, expected in zip(lean, stepped(), strict=True):
        torch.testing.assert_close(found, expected, **accuracy)


def test_trades_shares_the_natural_forward_where_the_mode_does_not_matter() -> None:
    x, y, modes = images("dense"), torch.arange(5), list[bool]()
    net = small().double()
    net.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    trades(net.train(), x, y, progress=0.0, attack=ATTACK)
    assert modes == [True, *[False] * 7, True]
    with_norm = normalized().double()
    modes.clear()
    with_norm.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    trades(with_norm.train(), images("normalized"), y % 4, progress=0.0, attack=ATTACK)
    assert modes == [False] * 8 + [True] * 2


def test_nothing_keeps_a_step_of_the_attack_alive() -> None:
    view, x = lean_view(small().eval(), torch.rand(2, 1, 8, 8)), torch.rand(2, 1, 8, 8)
    gc.disable()
    try:
        graph = weakref.ref(view(x.requires_grad_()).grad_fn)
        assert graph() is None
    finally:
        gc.enable()


def test_the_view_is_of_the_weights_as_they_are() -> None:
    """A step's weights are read anew: moved ones, and masks that a process moved."""
    net, x = small().eval(), torch.rand(2, 1, 8, 8)
    before = lean_view(net, x)(x)
    with torch.no_grad():
        net.conv2.weight.mul_(1.5)
    assert not torch.allclose(lean_view(net, x)(x), before)
    torch.testing.assert_close(lean_view(net, x)(x), net(x))
