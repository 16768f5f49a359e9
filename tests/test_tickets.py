"""Methods that start from a new network: RST, robust bird and lottery tickets, by facts of their papers."""

import copy
import functools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import TINY
from hooks import see, train
from processes import task
from torch import Tensor, nn

from advprune.attacks.pgd import pgd
from advprune.errors import UserError
from advprune.masks import keep_count, prunable
from advprune.modules.pruner_training import PrunerTraining
from advprune.modules.training import RobustTraining
from advprune.pruners import scopes
from advprune.pruners.hydra import Hydra
from advprune.pruners.process import Moment
from advprune.pruners.robust_bird import RobustBird
from advprune.pruners.rst import Rst, signed_constant
from advprune.pruners.task import cumulative
from advprune.pruners.tickets import Tickets


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    )


def near(target: float):
    def loss(weights: dict[str, Tensor]) -> Tensor:
        return sum(((w - target).square().sum() for w in weights.values()), torch.zeros(()))

    return loss


@pytest.mark.parametrize(("fan_in", "size"), [(27, 0.272166), (576, 0.058926), (4608, 0.020833)])
def test_signed_constants_have_one_size(fan_in: int, size: float) -> None:
    weight = torch.randn(3, fan_in // 9, 3, 3)
    values = signed_constant(weight)
    assert torch.allclose(values.abs(), torch.full_like(values, size), rtol=1e-4)
    assert torch.equal(values.sign(), weight.sign())


def test_rst_trains_scores_alone() -> None:
    net = small()
    nn.init.uniform_(net[1].weight)
    process = Rst(net, task(net, 0.7))
    expected = {name: signed_constant(weight) for name, weight in prunable(net).items()}
    scores = process.scores()
    train(process, net, near(0.3), epochs=5, weight_decay=0.1, momentum=0.9)
    for name, weight in prunable(net).items():
        assert torch.equal(weight.detach(), expected[name])
        assert int(process.mask(name).sum()) == keep_count(weight.numel(), 0.7)
        assert torch.equal(process.final_weights()[name], expected[name])
    assert any(not torch.equal(score, scores[name]) for name, score in process.scores().items())
    trained = [p for group in process.groups(net) for p in group.parameters]
    assert len(trained) == 2  # two layers' scores; no scale, shift or bias
    assert torch.equal(net[1].weight, torch.ones(8))
    assert not net[1].bias.any()


def test_rst_that_removes_nothing_keeps_all() -> None:
    net = small()
    process = Rst(net, task(net, 0.0))
    train(process, net, near(0.3), epochs=2)
    assert all(mask.all() for mask in process.masks().values())


def test_rst_of_constants_with_scaled_scores_is_hydra() -> None:
    net = small()
    for weight in prunable(net).values():
        weight.data.copy_(signed_constant(weight))
    other = copy.deepcopy(net)
    rst = Rst(net, task(net, 0.5, scope="global"), init="scaled")
    hydra = Hydra(other, task(other, 0.5, scope="global"), bn="freeze_affine")
    for process, its in ((rst, net), (hydra, other)):
        train(process, its, near(0.1), epochs=9, momentum=0.9)
    assert all(torch.equal(hydra.mask(name), rst.mask(name)) for name in rst.weights)
    assert all(torch.equal(hydra.scores()[name], s) for name, s in rst.scores().items())


def test_the_distance_of_masks() -> None:
    net = nn.Conv2d(10, 10, 1, bias=False)
    for stop, factor in (("absolute", 1.0), ("relative", 1 / (2 * 0.3))):
        process = RobustBird(net, task(net, 0.7), stop=stop)
        process.recent[:, :30] = True
        assert process.distance() == 0
        process.recent[3] = process.recent[3].roll(30)
        assert process.distance() == pytest.approx(2 * 0.3 * factor)  # disjoint, of density 0.3


@pytest.mark.parametrize("ratio", [0.96, 0.99])
def test_at_high_sparsity_the_absolute_rule_fires_at_the_first_check(ratio: float) -> None:
    """Two masks of density d differ in at most 2d of their entries, whatever the weights do."""
    net = nn.Sequential(nn.Conv2d(10, 10, 3), nn.Conv2d(10, 10, 3))

    def shuffle(now: Moment) -> None:
        for weight in prunable(net).values():
            nn.init.normal_(weight)

    for stop, epochs in (("absolute", 5), ("relative", 12)):
        process = RobustBird(net, task(net, ratio, scope="global"), stop=stop)
        train(process, net, near(0.1), epochs=12, steps=2, watch=shuffle)
        assert process.result()["epochs"] == epochs
        assert process.result()["settled"] == (stop == "absolute")
        doubts = process.result().get("doubts", [])
        assert len(doubts) == (stop == "relative")
        assert all("had not settled after 12 epochs, whose masks were" in doubt for doubt in doubts)
        assert process.on_target()


def test_masks_that_settle_end_the_phase_and_weights_keep_their_values() -> None:
    net = small()
    process = RobustBird(net, task(net, 0.5, scope="global"), stop="relative")
    train(process, net, near(0.0), epochs=30, lr=0.001)
    expected = {"rounds": [0.5], "settled": True, "epochs": 5, "mask_distance": 0}
    assert process.result() == expected
    sizes = {name: weight.detach().abs() for name, weight in prunable(net).items()}
    largest = scopes.spend(sizes, 0.5, scope="global")
    assert all(torch.equal(process.mask(name), mask) for name, mask in largest.items())
    final = process.final_weights()
    assert all(torch.equal(final[name], weight) for name, weight in prunable(net).items())


def test_the_masks_that_are_compared_are_those_of_convolutions() -> None:
    net = small()
    process = RobustBird(net, task(net, 0.5, scope="global"))
    assert process.recent.shape == (5, 8 * 2 * 9)
    with torch.no_grad():
        process.after_epoch(Moment(0, 1, 0, 1), {})
    expected = scopes.spend({"": net[0].weight.detach().abs()}, 0.5, scope="global")[""]
    assert torch.equal(process.recent[0], expected.flatten())
    with pytest.raises(UserError, match="compares masks of convolutions, and the network has none"):
        RobustBird(nn.Linear(2, 2), task(nn.Linear(2, 2), 0.5))


def test_boosting_tickets_schedule() -> None:
    ratios = cumulative(0.98, schedule="hyperbolic", rounds=10)
    shown = [17.8, 32.7, 45.2, 56.0, 65.3, 73.5, 80.7, 87.1, 92.8, 98]
    assert [100 * ratio for ratio in ratios] == pytest.approx(shown, abs=0.1)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_each_round_begins_where_the_first_began_without_what_is_gone(scope: scopes.Scope) -> None:
    net = small()
    beginning = {name: value.clone() for name, value in net.state_dict().items()}
    ratios = tuple(cumulative(0.9, schedule="exponential", rounds=3))
    process, rounds = Tickets(net, task(net, 0.9, scope=scope, ratios=ratios)), []

    def watch(now: Moment) -> None:
        if len(rounds) < int(process.made):
            rounds.append(process.masks())
            for name, value in net.state_dict().items():
                kept = rounds[-1].get(name, torch.ones_like(value, dtype=torch.bool))
                assert torch.equal(value, beginning[name] * kept), name

    optimizer = train(
        process, net, near(0.2), epochs=6, steps=4, watch=watch, momentum=0.9, weight_decay=0.01
    )
    assert len(rounds) == 2
    total = sum(weight.numel() for weight in prunable(net).values())
    for masks, ratio in zip([*rounds, process.masks()], ratios, strict=True):
        kept = sum(int(mask.sum()) for mask in masks.values())
        assert abs(kept - keep_count(total, ratio)) <= (1 if scope == "layer" else 0)
    for name, mask in process.masks().items():
        assert not (mask & ~rounds[1][name]).any()
        assert torch.equal(dict(net.named_parameters())[name], beginning[name] * mask)
    assert optimizer.state


def test_a_round_begins_without_momentum() -> None:
    net, moments = small(), []
    process = Tickets(net, task(net, 0.5, ratios=(0.3, 0.5)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for step in range(8):
        optimizer.zero_grad()
        near(1.0)({n: process.effective(n, w) for n, w in process.weights.items()}).backward()
        with torch.no_grad():
            optimizer.step()
            process.after_step(Moment(step, 8, step // 2, 4), optimizer)
        state = optimizer.state[net[0].weight]["momentum_buffer"]
        moments.append(bool(state.any()))
    assert moments == [True, True, True, False, True, True, True, True]
    assert int(process.made) == 1


def test_a_ticket_sees_its_mask() -> None:
    net, x = small().eval(), torch.randn(2, 2, 4, 4)
    process = Tickets(net, task(net, 0.5))
    with torch.no_grad():
        process.finish(net)
    assert torch.equal(see(process, net, x), net(x))


def test_rounds_train_at_a_rate_and_a_decay_of_their_own() -> None:
    net = small()
    (group,) = Tickets(net, task(net, 0.5), learning_rate=0.1, weight_decay=0.2).groups(net)
    assert (group.learning_rate, group.weight_decay) == (0.1, 0.2)


def test_more_rounds_than_epochs_are_refused() -> None:
    net = small()
    process = Tickets(net, task(net, 0.5, ratios=(0.1, 0.3, 0.5)))
    optimizer = torch.optim.SGD(net.parameters())
    process.check(3, optimizer)
    with pytest.raises(UserError, match=r"rounds=3 share search\.epochs=2"):
        process.check(2, optimizer)


def test_each_round_goes_through_the_whole_schedule() -> None:
    net = small()
    process = Tickets(net, task(net, 0.5, ratios=(0.1, 0.3, 0.5)))
    at = [process.schedule_step(Moment(step, 12, step // 2, 6)) for step in range(12)]
    assert at == [0, 3, 6, 9] * 3
    uneven = [process.schedule_step(Moment(step, 8, step // 2, 4)) for step in range(9)]
    assert uneven == [0, 2, 4, 6, 0, 4, 0, 4, 8]
    one = Tickets(small(), task(small(), 0.5))
    assert [one.schedule_step(Moment(s, 8, s // 2, 4)) for s in range(8)] == list(range(8))


def test_b4_no_step_of_the_first_stage_makes_an_adversarial_example(
    job: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attacked steps are those of robust training afterwards; validation may attack between."""
    inside: list[str] = []
    attacked: dict[str, int] = defaultdict(int)

    def watched(cls: type, method: Callable[..., Any]) -> Callable[..., Any]:
        def training_step(self: Any, *arguments: Any) -> Any:
            inside.append(cls.__name__)
            try:
                return method(self, *arguments)
            finally:
                inside.pop()

        return training_step

    @functools.wraps(pgd)  # its ranges are looked at by its name
    def count(*arguments: Any, **options: Any) -> Any:
        if inside:
            attacked[inside[0]] += 1
        return pgd(*arguments, **options)

    for cls in (PrunerTraining, RobustTraining):
        monkeypatch.setattr(cls, "training_step", watched(cls, cls.training_step))
    monkeypatch.setattr("advprune.attacks.pgd.pgd", count)
    job("pruner=robust_bird", "ratio=0.5", *TINY)
    robust_phases = (
        2  # the dense network of the table's first row, and training after the masks settled
    )
    assert attacked == {"RobustTraining": robust_phases * 2 * 3}  # two epochs of three batches
