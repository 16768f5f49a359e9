"""Verified and smoothed objectives: their schedules in closed form, and losses worked out by hand."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.bounds.interval import ibp as ibp_bound
from advprune.bounds.linear import crown
from advprune.bounds.linear import crown_ibp as crown_ibp_bound
from advprune.errors import UserError
from advprune.modules import optim
from advprune.modules.optim import factor
from advprune.modules.recipe import Recipe, Schedule
from advprune.objectives.crown_ibp import crown_ibp
from advprune.objectives.ibp import ibp
from advprune.objectives.mixtrain import mixtrain
from advprune.objectives.smoothing import Smoothed, smoothing
from advprune.threat import Linf

X, Y = (
    torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0)),
    torch.tensor([0, 1, 2, 0, 1, 2]),
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


class Spy:
    """A bound that remembers what it was asked; margins of zero."""

    def __init__(self) -> None:
        self.asked: list[dict[str, float]] = []
        self.images: list[Tensor] = []

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, **options: float) -> Tensor:
        self.asked.append(options)
        self.images.append(x)
        return torch.zeros(len(x), 3)


def test_t17_the_authors_cosine() -> None:
    rates = [0.1 * optim.cosine_authors(epoch, 20) for epoch in range(20)]
    assert [rates[0], rates[1], rates[19]] == pytest.approx([0.09938442, 0.1, 0.00244717], abs=5e-9)


def test_the_authors_cosine_of_free_training_is_planned_for_the_epochs_before_the_replays_divide_them() -> (
    None
):
    """hydra.md 6, defect 9: at pass 22, the authors' last, the rate is still 0.087."""
    at = factor(
        Recipe(epochs=90, schedule=Schedule.cosine_authors_free), steps_per_epoch=2, epochs=23
    )
    assert at(2) == 1.0
    assert 0.1 * at(44) == 0.1 * at(45) == pytest.approx(0.087, abs=5e-4)
    usual = factor(
        Recipe(epochs=20, schedule=Schedule.cosine_authors), steps_per_epoch=2, epochs=20
    )
    assert usual(39) == pytest.approx(0.0244717, abs=5e-8)


@pytest.mark.parametrize(
    ("step", "share", "beta"), [(60, 0.0035294 / 0.007, 0.4958), (119, 1.0, 0.0), (150, 1.0, 0.0)]
)
def test_t18_crown_ibp_schedule(step: float, share: float, beta: float) -> None:
    """hydra.md 2.4, SVHN: 200 epochs, eps full after 119."""
    spy = Spy()
    crown_ibp(network(), X, Y, progress=step / 200, bound=spy, ramp=119 / 200)
    assert spy.asked[0]["scale"] == pytest.approx(share, abs=1e-3)
    assert spy.asked[0]["beta"] == pytest.approx(beta, abs=1e-4)


def test_t18_mixtrain_schedules() -> None:
    """eps(e) = 0.007 e / 15; the weight 0.1 to e = 19, then times 2.5 each five epochs, 50 from e = 50."""
    spy = Spy()
    weights = {
        0: 0.1,
        19: 0.1,
        20: 0.25,
        25: 0.625,
        30: 1.5625,
        35: 3.90625,
        40: 9.765625,
        45: 24.4140625,
        50: 50,
        59: 50,
    }
    natural = F.cross_entropy(network()(X), Y)
    for epoch, weight in weights.items():
        loss = mixtrain(network(), X, Y, progress=(epoch + 0.5) / 60, bound=spy, probability=1.0)
        assert loss.item() == pytest.approx(natural.item() + weight * math.log(3), rel=1e-5)
        assert spy.asked[-1]["scale"] == pytest.approx(min(epoch / 15, 1.0))
        scaled = mixtrain(
            network(),
            X,
            Y,
            progress=(epoch + 0.5) / 60,
            bound=spy,
            probability=1.0,
            normalised=True,
        )
        assert scaled.item() == pytest.approx(loss.item() / (1 + weight), rel=1e-5)
    mixtrain(network(), X, Y, progress=0.0, bound=spy, probability=1.0, clock=20, ramp=0)
    assert spy.asked[-1]["scale"] == 1.0  # pruning and fine-tuning have the whole eps at once


def test_t27_a_schedule_of_no_length_is_pure_ibp() -> None:
    loss = crown_ibp(
        network(), X, Y, progress=0.0, ramp=0.0, bound=partial(crown_ibp_bound, threat=Linf(0.1))
    )
    margins = ibp_bound(network(), X, Y, threat=Linf(0.1))
    torch.testing.assert_close(loss, F.cross_entropy(-margins, Y))


def test_ibp_moves_from_natural_to_worst_case() -> None:
    bound = partial(ibp_bound, threat=Linf(0.1))
    natural = F.cross_entropy(network()(X), Y)
    at = partial(ibp, network(), X, Y, bound=bound, hold=0.1, ramp=0.4)
    torch.testing.assert_close(at(progress=0.0), natural)
    torch.testing.assert_close(at(progress=0.1), natural)
    worst = F.cross_entropy(-ibp_bound(network(), X, Y, threat=Linf(0.1)), Y)
    torch.testing.assert_close(at(progress=0.5), worst)
    half = F.cross_entropy(-ibp_bound(network(), X, Y, threat=Linf(0.1), scale=0.5), Y)
    torch.testing.assert_close(at(progress=0.3), 0.5 * natural + 0.5 * half)


def test_a_natural_step_asks_for_no_bounds_and_a_verified_one_for_no_forward() -> None:
    spy, forwards = Spy(), []
    net = network()
    net.register_forward_hook(lambda *_: forwards.append(1))
    ibp(net, X, Y, progress=0.0, bound=spy, hold=0.2)
    assert (len(spy.asked), len(forwards)) == (0, 1)
    ibp(net, X, Y, progress=0.9, bound=spy)
    assert (len(spy.asked), len(forwards)) == (1, 1)


def test_mixtrain_bounds_a_few_images_drawn_with_replacement() -> None:
    spy, net = Spy(), network()
    for _ in range(400):
        mixtrain(net, X, Y, progress=0.5, bound=spy, images=5)
    assert len(spy.asked) == pytest.approx(0.8 * 400, abs=30)  # 8 standard deviations are 64
    assert all(len(images) == 5 for images in spy.images)
    assert any(len(images.flatten(1).unique(dim=0)) < 5 for images in spy.images)


def test_verified_objectives_teach_what_they_prove() -> None:
    """From a random network to one proved on its six images, by each objective."""
    for goal, bound in (
        (ibp, ibp_bound),
        (crown_ibp, crown_ibp_bound),
        (partial(mixtrain, images=6), crown),
    ):
        net = network()
        optimizer = torch.optim.Adam(net.parameters(), 0.02)
        for step in range(150):
            optimizer.zero_grad()
            goal(net, X, Y, progress=step / 150, bound=partial(bound, threat=Linf(0.02))).backward()
            optimizer.step()
        margins = bound(net, X, Y, threat=Linf(0.02)).scatter(1, Y[:, None], 1.0)
        assert (margins > 0).all()


class Shift(nn.Module):
    """Two logits: [0, the first pixel]."""

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, :1]
        return torch.cat([torch.zeros_like(first), first], 1)


def test_t19_stability_is_a_clean_loss_and_a_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clean logits [0, 0], noisy [0, -ln 3], y = 0, beta 6: log 2 + 6 * 0.143841 = 1.556193."""
    noise = -math.log(3) / 0.25
    monkeypatch.setattr(torch, "randn_like", lambda like, **_: torch.full(like.shape, noise))
    loss = smoothing(Shift(), torch.zeros(1, 1, 1, 1), torch.tensor([0]), progress=0.0)
    assert loss.item() == pytest.approx(1.556193, abs=1e-6)


def test_gaussian_is_the_mean_loss_over_the_noise() -> None:
    net = network()
    torch.manual_seed(3)
    loss = smoothing(net, X, Y, progress=0.0, form="gaussian", sigma=0.5, samples=4)
    torch.manual_seed(3)
    noise = 0.5 * torch.randn(4, *X.shape)
    each = torch.stack([F.cross_entropy(net(X + one), Y) for one in noise])
    torch.testing.assert_close(loss, each.mean())


def test_smoothadv_attacks_the_smoothed_network_with_the_noise_it_trains_on() -> None:
    net, seen = network(), []

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append(model(x))
        return (x + 0.1).clamp(0, 1)

    torch.manual_seed(3)
    loss = smoothing(net, X, Y, progress=0.0, form="smoothadv", samples=3, attack=attack)
    torch.manual_seed(3)
    noise = 0.25 * torch.randn(3, *X.shape)
    vote = torch.stack([net(X + one).softmax(1) for one in noise]).mean(0)
    torch.testing.assert_close(seen[0].exp(), vote)
    each = torch.stack([F.cross_entropy(net((X + 0.1).clamp(0, 1) + one), Y) for one in noise])
    torch.testing.assert_close(loss, each.mean())
    torch.testing.assert_close(Smoothed(net, noise)(X).exp().sum(1), torch.ones(6))


def test_consistency_of_equal_copies_is_cross_entropy_and_entropy() -> None:
    """On a network that ignores its input, the divergence is 0 and the entropy that of its one answer."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    net[1].weight.data.zero_()
    net[1].bias.data = torch.tensor([math.log(2), 0.0, 0.0])  # probabilities 1/2, 1/4, 1/4
    loss = smoothing(
        net, X[:1], Y[:1], progress=0.0, form="consistency", samples=2, beta=20.0, entropy=0.5
    )
    assert loss.item() == pytest.approx(math.log(2) + 0.5 * 1.5 * math.log(2), rel=1e-5)


def test_macer_by_hand() -> None:
    """An input-free network again: p = 1/2, and the vote of temperature 16 is sure, so no radius is left to gain."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    net[1].weight.data.zero_()
    net[1].bias.data = torch.tensor([math.log(2), 0.0, 0.0])
    vote = torch.tensor([2.0**16, 1.0, 1.0]).double()
    vote = (vote / vote.sum()).clamp(1e-6, 1 - 1e-6)
    gap = (torch.special.ndtri(vote[0]) - torch.special.ndtri(vote[1])).item()
    loss = smoothing(net, X[:1], Y[:1], progress=0.0, form="macer", samples=16, beta=12.0)
    assert loss.item() == pytest.approx(math.log(2) + 12 * 0.125 * max(8 - gap, 0), rel=1e-3)
    wrong = smoothing(
        net, X[:1], torch.tensor([1]), progress=0.0, form="macer", samples=16, beta=12.0
    )
    assert wrong.item() == pytest.approx(
        math.log(4), rel=1e-5
    )  # an image that is wrong has no radius


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (partial(smoothing, sigma=0.0), "sigma"),
        (partial(smoothing, form="macer"), "samples"),
        (partial(smoothing, form="smoothadv"), "attack"),
        (partial(smoothing, form="cohen"), "form"),
        (partial(ibp, bound=Spy(), hold=0.6, ramp=0.6), "at most 1"),
        (partial(ibp, bound=Spy(), kappa_end=2.0), "kappa_end"),
        (partial(crown_ibp, bound=Spy(), beta_start=-1.0), "beta_start"),
        (partial(mixtrain, bound=Spy(), ramp=90), "clock"),
        (partial(mixtrain, bound=Spy(), probability=80), "probability"),
        (partial(ibp, ramp=0.0, bound=partial(ibp_bound, threat=Linf(0.1))), "src/advprune/bounds"),
    ],
)
def test_mistakes(call, word: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh()) if "src" in word else network()
    with pytest.raises(UserError, match=word):
        call(net, X, Y, progress=0.0)
