"""Fast paths beside the plain one: what they may change, by how much, and what they must leave as it was."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from processes import searching
from sklearn.datasets import load_digits
from test_keys import OPTIONS, keys
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from advprune.attacks.pgd import pgd
from advprune.bounds.interval import ibp
from advprune.distributed.environment import Trainer
from advprune.distributed.sharding import seed_step
from advprune.logits import kl
from advprune.masks import prunable
from advprune.objectives.trades import trades
from advprune.runtime import speed
from advprune.runtime.speed import Mixed, autocast, compiling
from advprune.stages.training_phase import optimized_layout
from advprune.surgery.subnet import Subnet
from advprune.threat import L2, Linf

STEPS, UNIT = 100, 2.0**-8
BALL, BALL_L2 = Linf(0.15), L2(1.0)
#: Relative difference of the mean loss of 100 steps. Two fp32 paths that differ in rounding alone
#: were 0.2 units apart and bf16 0.8 to 1.2, the two wrong paths below 14 and 16.
BOUND = 4 * UNIT


def a_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def mean_loss(way: Callable[[nn.Module], nn.Module], *, trainer: dict[str, Any]) -> float:
    """Over 100 steps of TRADES on the digits; ``way`` is what a step calls instead of the network."""
    digits, net = load_digits(), a_net()
    images, labels = (
        torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16,
        torch.tensor(digits.target),
    )
    attack = partial(pgd, threat=BALL, steps=3, rel_step=0.5, loss=kl, start="gaussian")
    order, losses = torch.Generator().manual_seed(1), []
    with optimized_layout(net, Trainer(**trainer), 8):
        seen = way(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        for step in range(STEPS):
            chosen = torch.randint(len(images), (64,), generator=order)
            seed_step(0, "train", step)
            net.train()
            loss = trades(seen, images[chosen], labels[chosen], progress=0.0, attack=attack)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return sum(losses) / STEPS


class InBf16(nn.Module):
    """Wrong: the weights themselves in bf16, where a small step of the optimizer is lost."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.bfloat16()).float()


class Coarse(nn.Module):
    """Wrong: bf16 also where the attack's start differs from the image by less than bf16 has."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(x).float()


def test_the_loss_of_100_steps_agrees_and_that_of_wrong_paths_does_not() -> None:
    def apart(way: Callable[[nn.Module], nn.Module], memory_format: str) -> float:
        return abs(mean_loss(way, trainer={"memory_format": memory_format}) / plain - 1)

    plain = mean_loss(lambda net: net, trainer={"memory_format": "contiguous"})
    assert apart(lambda net: net, "channels_last") < BOUND
    assert apart(Mixed, "channels_last") < BOUND
    assert apart(InBf16, "contiguous") > BOUND
    assert apart(Coarse, "contiguous") > BOUND


@pytest.mark.slow
def test_the_loss_of_100_compiled_steps_agrees() -> None:
    """A compiler's minute, hence slow."""
    plain = mean_loss(lambda net: net, trainer={"memory_format": "contiguous"})
    for way in (lambda net: net, Mixed):
        assert abs(mean_loss(way, trainer={"compile": "default"}) / plain - 1) < BOUND


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["dense", "masked", "searched"])
def test_a_compiled_attack_step_is_one_graph_for_all_steps_and_gives_the_same(
    kind: str, precision: str
) -> None:
    """Traced in full and run uncompiled: what a compiler makes of the graph is its business, and takes a minute."""
    net, x = a_net(), torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    scores = {name: torch.rand_like(weight) for name, weight in prunable(net).items()}
    masks = {name: score > 0.5 for name, score in scores.items()}
    seen = {
        "dense": lambda: net,
        "masked": lambda: Subnet(net, masks),
        "searched": lambda: searching(net, scores=scores),
    }[kind]()
    model = autocast(seen, precision)
    attack = partial(pgd, threat=BALL_L2, steps=3, rel_step=0.5, loss=kl, start="gaussian")
    weight = net[3].weight.detach().clone()

    def three_steps() -> list[Tensor]:
        found = []
        for turn in range(3):
            with torch.no_grad():
                net[3].weight.copy_((1 + turn) * weight)
            seed_step(0, "attack", turn)
            found.append(attack(model, x, torch.rand(8, 10).softmax(1)))
        return found

    counted = CompileCounter()
    with (
        compiling("default"),
        mock.patch.object(torch, "compile", partial(torch.compile, backend=counted)),
    ):
        once = three_steps()
    # one processor computes a traced product in bf16 as it does an untraced one, another does not
    close = {"fp32": 1e-6, "bf16": 2**-6 * BALL_L2.eps}[precision]
    for ours, plain in zip(once, three_steps(), strict=True):
        assert (ours - plain).flatten(1).norm(dim=1).max() <= close
    assert counted.frame_count == (
        1 if precision == "fp32" else 2
    )  # the attack's first step is in fp32
    assert not torch.equal(once[0], once[2])
    assert not speed.compiles()
    with pytest.raises(ValueError, match="nothing is compiled"):
        speed.compiled(attack)


@pytest.mark.slow
def test_robust_accuracy_of_a_finished_run_is_within_the_plain_ones_interval(job: Any) -> None:
    small = ("trainer=cpu", "dataset.train_images=600", "training.epochs=8", "attack.steps=10")
    plain = job(*small, "trainer.memory_format=contiguous", command="train")["row"]
    fast = job(
        *small, "trainer.precision=bf16", "trainer.memory_format=channels_last", command="train"
    )["row"]
    assert fast["made"] == 2  # another key: not the plain one, found
    low, high = plain["robust_acc_interval"]
    assert low <= fast["robust_acc"] <= high


@pytest.mark.parametrize("able", [True, False])
def test_bf16_is_said_to_be_emulated_where_it_is(
    able: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able}, raising=False)
    for precision in ("fp32", "bf16"):
        speed.warn_of_emulation(precision, torch.device("cpu"))  # type: ignore[arg-type]
    assert ["fp32 is faster" in record.message for record in caplog.records] == [True] * (not able)


def test_logits_are_fp32_and_the_layers_bf16_but_where_exactness_is_asked_for() -> None:
    net, x = a_net().eval(), torch.rand(16, 1, 8, 8)
    seen: list[torch.dtype] = []
    net[4].register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    with torch.no_grad():
        plain, mixed = net(x), Mixed(net)(x)
        with speed.full_precision():
            assert torch.equal(Mixed(net)(x), plain)
    assert mixed.dtype == torch.float32
    assert seen == [torch.float32, torch.bfloat16, torch.float32]
    assert 0 < (mixed - plain).abs().max() < 8 * UNIT * plain.abs().max()
    assert autocast(net, "fp32") is net


def test_bounds_of_a_network_in_bf16_are_those_of_fp32() -> None:
    net, x, y = a_net().eval(), torch.rand(4, 1, 8, 8), torch.arange(4)
    masked = Subnet(
        net, {name: torch.rand_like(w) > 0.5 for name, w in prunable(net).items()}
    ).eval()
    for model in (net, masked):
        assert torch.equal(ibp(Mixed(model), x, y, threat=BALL), ibp(model, x, y, threat=BALL))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("searched", [False, True])
def test_a_network_lies_as_asked_inside_and_as_before_outside(searched: bool, fails: bool) -> None:
    net, x = a_net().eval(), torch.rand(4, 1, 8, 8)
    whole: nn.Module = net
    if searched:
        whole = searching(net)
    before, values = {n: t.clone() for n, t in whole.state_dict().items()}, whole(x).detach()
    with (
        pytest.raises(RuntimeError) if fails else nullcontext(),
        optimized_layout(whole, Trainer(memory_format="channels_last", compile="default"), 32),
    ):
        assert net[3].weight.is_contiguous(memory_format=torch.channels_last)
        assert net._compiled_call_impl is not None
        if fails:
            raise RuntimeError
    assert net._compiled_call_impl is None
    assert all(tensor.is_contiguous() for tensor in whole.state_dict().values())
    assert all(torch.equal(tensor, before[name]) for name, tensor in whole.state_dict().items())
    assert torch.equal(whole(x), values)


def test_precision_moves_the_keys_of_what_is_trained_and_speed_moves_none() -> None:
    def of(**trainer: Any) -> dict[str, str]:
        return keys(OPTIONS | {"trainer": trainer})

    fast = {
        "memory_format": "channels_last",
        "compile": "default",
        "allocator": "system",
        "precision": "fp32",
    }
    assert of(**fast) == keys(OPTIONS)
    moved = of(precision="bf16")
    assert all(
        moved[name] != key for name, key in keys(OPTIONS).items()
    )  # the dense parent is trained, too
    assert moved != of(precision="bf16", batch_norm="local", devices=2)


def test_a_training_in_channels_last_goes_on_from_a_checkpoint_with_the_same_bits(
    tmp_path: Path,
) -> None:
    x, y = torch.rand(16, 1, 8, 8), torch.arange(16) % 10

    def stepped(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(Mixed(net)(x), y).backward()
            optimizer.step()

    def begun() -> tuple[nn.Module, torch.optim.Optimizer]:
        net = a_net()
        return net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    (whole, one), (killed, two), (resumed, three) = begun(), begun(), begun()
    trainer = Trainer(memory_format="channels_last")
    with (
        optimized_layout(whole, trainer, 8),
        optimized_layout(killed, trainer, 8),
        optimized_layout(resumed, trainer, 8),
    ):
        stepped(whole, one, 6)
        stepped(killed, two, 3)
        torch.save(
            {"net": killed.state_dict(), "optimizer": two.state_dict()}, tmp_path / "last.ckpt"
        )
        saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
        resumed.load_state_dict(saved["net"])
        three.load_state_dict(saved["optimizer"])
        stepped(resumed, three, 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_cudnn_tries_kernels_again_after_an_attack() -> None:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        with speed.without_kernel_trials():
            assert not torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = before
