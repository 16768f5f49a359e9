"""Attacks against closed forms, against the package they adapt, and the contract each YAML in conf/attack keeps."""

import copy
import inspect
import logging
import sys
from functools import partial
from pathlib import Path

import pyautoattack
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from pyautoattack.square import SquareAttack
from torch import nn

from advprune.attacks.autoattack import autoattack
from advprune.attacks.pgd import pgd
from advprune.attacks.square import square
from advprune.attacks.worst_of import worst_of
from advprune.config import schema
from advprune.errors import UserError
from advprune.logits import kl, margin
from advprune.report.data.evaluation_summary import PGD, too_short
from advprune.threat import L2, Certificate, Linf

CONF = Path(__file__).parents[1] / "conf"


def attacks_in_a_ball() -> list[str]:
    """Those of conf/attack that answer with images in the threat's ball, and ask no special network.

    Certifiers, perturbations that are no balls and the faces of quantized networks have tests of
    their own.
    """
    names = []
    for path in sorted((CONF / "attack").glob("*.yaml")):
        if path.stem == "frame":
            continue
        node = OmegaConf.load(path)
        target = node.get(
            "_target_", "advprune.attacks.pgd.pgd"
        )  # a variant of PGD starts from its YAML
        own = "perturbation" in node or target.startswith("advprune.attacks.quantized_variant.")
        if not own and inspect.signature(get_object(target)).return_annotation is not Certificate:
            names.append(path.stem)
    return names


NAMES = attacks_in_a_ball()
FRAME = ("images", "batch_size", "eps")
#: Enough of what is long by default.
FEW = {"n_queries": 200, "restarts": 1}
CASES = [
    (name, threat, grad)
    for name in NAMES
    for threat in ("linf", "l2")
    for grad in (True, False)
    # DDN has one norm. AutoAttack is slow; its linf run with gradients on is the one that is
    # compared with the package.
    if (name, threat) != ("ddn", "linf") and (name != "autoattack" or (threat == "l2" and not grad))
]


def build(name: str, threat: str = "linf"):
    """The attack of a YAML, as a run builds it, small."""
    overrides = [
        f"+attack={name}",
        f"+threat={threat}",
        "+dataset.eps.linf=0.1",
        "+dataset.eps.l2=1.0",
        "+seed=0",
    ]
    schema.register()  # the resolver of the audit's default
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose(None, overrides=overrides), resolve=True)["attack"]
    assert all(key in config for key in FRAME)
    for part in (config, *config.get("attacks", {}).values()) if name != "autoattack" else ():
        part |= {option: few for option, few in FEW.items() if option in part}
    return instantiate({key: value for key, value in config.items() if key not in FRAME})


class Tiny(nn.Module):
    """A net with BatchNorm, so one whose logits depend on its mode."""

    def __init__(self, classes: int = 4):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes)
        )
        self.forwards = 0

    def forward(self, x):
        self.forwards += 1
        return self.net(x)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return Tiny()


@pytest.fixture
def batch(tiny):
    """Images the net is right on in eval mode, but for the last."""
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = tiny.eval()(x).argmax(1)
    y[-1] = (y[-1] + 1) % 4
    tiny.train().forwards = 0
    return x, y


@pytest.fixture
def linear():
    """Two classes, margin w.x + b with w = (1, -3, 0.5) wanted down: the worst point is known (HYDRA's fact T22)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -2, 0.5], [0, 1, 1]]))
        model[1].bias.zero_()
    return model


def test_pgd_reaches_the_optimum_of_a_linear_model(linear):
    x, y = torch.full((3, 1, 1, 3), 0.5), torch.zeros(3, dtype=torch.int64)
    w = torch.tensor([1.0, -3, -0.5])
    nominal = -1.25
    torch.testing.assert_close(-margin(linear(x), y), torch.full((3,), nominal))
    x_adv = pgd(linear, x, y, threat=Linf(0.1), steps=20, rel_step=0.25)
    torch.testing.assert_close(
        -margin(linear(x_adv), y), torch.full((3,), nominal - 0.1 * w.abs().sum().item())
    )
    assert -margin(linear(x_adv), y)[0].item() == pytest.approx(-1.70, abs=1e-5)
    for start in ("uniform", "gaussian", "none"):
        x_adv = pgd(linear, x, y, threat=L2(0.2), steps=40, rel_step=0.25, start=start)
        torch.testing.assert_close(x_adv, (x - 0.2 * w / w.norm()), rtol=0, atol=2e-3)
        torch.testing.assert_close(
            -margin(linear(x_adv), y), torch.full((3,), nominal - 0.2 * w.norm().item())
        )


def test_fgsm_is_one_whole_step(linear):
    x, y = torch.tensor([[[[0.5, 0.95, 0.05]]]]), torch.tensor([0])
    x_adv = build("fgsm")(linear, x, y)
    torch.testing.assert_close(x_adv, torch.tensor([[[[0.4, 1.0, 0.15]]]]))


@pytest.mark.parametrize(("name", "threat", "grad"), CASES)
def test_every_attack_keeps_the_contract(name, threat, grad, tiny, batch):
    x, y = batch
    attack, ball = build(name, threat), {"linf": Linf(0.1), "l2": L2(1.0)}[threat]
    weight = tiny.net[0].weight
    weight.grad = torch.ones_like(weight)
    tiny.net[1].eval()
    tiny.net[4].bias.requires_grad_(False)
    modes = [m.training for m in tiny.modules()]
    state = copy.deepcopy(tiny.state_dict())
    with torch.set_grad_enabled(grad):
        x_adv = attack(tiny, x, y)
    assert (x_adv.shape, x_adv.dtype, x_adv.requires_grad) == (x.shape, torch.float32, False)
    assert ball.distance(x_adv, x).max() <= ball.eps + 1e-6
    assert 0 <= x_adv.min() <= x_adv.max() <= 1
    assert [m.training for m in tiny.modules()] == modes
    assert [n for n, p in tiny.named_parameters() if not p.requires_grad] == ["net.4.bias"]
    assert torch.equal(weight.grad, torch.ones_like(weight))
    assert all(p.grad is None for p in tiny.parameters() if p is not weight)
    assert all(torch.equal(value, state[key]) for key, value in tiny.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_comes_back_empty(name, tiny):
    assert build(name, "l2")(
        tiny, torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)
    ).shape == (
        0,
        1,
        8,
        8,
    )


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"start": "unifrom"}, "uniform, gaussian, none"),
        ({"loss": "kl"}, "advprune.logits"),
        ({"steps": 0}, "at least 1"),
        ({"restarts": 0}, "at least 1"),
        ({"rel_step": 0.0}, "above 0"),
        ({"start": "none", "restarts": 3}, "start=uniform"),
    ],
)
def test_a_wrong_option_of_pgd_is_an_error(option, said, tiny, batch):
    with pytest.raises(UserError, match=said):
        pgd(tiny, *batch, threat=Linf(0.1), **option)
    assert tiny.forwards == 0


def test_a_model_without_a_gradient_is_an_error(batch):
    class Rounded(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)[:, :4]

    with pytest.raises(UserError, match="attack=square"):
        pgd(Rounded(), *batch, threat=Linf(0.1))


class Scripted(nn.Module):
    """Two-class logits (0, pixel) of one-pixel images, so that a start decides what an attack ends with."""

    def __init__(self):
        super().__init__()
        self.calls: list[int] = []

    def forward(self, x):
        self.calls.append(len(x))
        pixel = x.flatten(1)
        return torch.cat([torch.zeros_like(pixel), pixel - 0.6 + 0 * pixel], dim=1)


class Starts(Linf):
    """A threat whose starts are written down and which then stays where it is."""

    def __init__(self, script):
        super().__init__(0.5)
        object.__setattr__(self, "script", iter(script))

    def sample(self, x, draw):
        return torch.tensor(next(self.script)).view(-1, 1, 1, 1)

    def project(self, x_adv, x):
        return x_adv

    def steepest(self, grad):
        return torch.zeros_like(grad)


def test_restarts_keep_the_worst_and_go_on_with_survivors_only():
    """Fooled above 0.6. Image 0 falls at once, image 1 in the second try, image 2 never: its second was the best."""
    model = Scripted()
    threat = Starts([[0.9, 0.3, 0.2], [0.7, 0.5], [0.1]])
    x, y = torch.full((3, 1, 1, 1), 0.5), torch.zeros(3, dtype=torch.int64)
    x_adv = pgd(model, x, y, threat=threat, steps=1, restarts=3)
    torch.testing.assert_close(x_adv.flatten(), torch.tensor([0.9, 0.7, 0.5]))
    assert model.calls == [3, 3, 2, 2, 1, 1]  # a step and a judgement for each restart


def test_one_restart_costs_no_forward_beyond_its_steps(tiny, batch):
    pgd(tiny, *batch, threat=Linf(0.1), steps=7)
    assert tiny.forwards == 7


def test_pgd_climbs_a_divergence_from_soft_targets(tiny, batch):
    x, _ = batch
    target = tiny.eval()(x).softmax(1).detach()
    x_adv = pgd(
        tiny,
        x,
        target,
        threat=Linf(0.1),
        steps=10,
        rel_step=0.25,
        loss=kl,
        start="gaussian",
        restarts=2,
    )
    assert (kl(tiny(x_adv), target) > 100 * kl(tiny(x + 0.001), target)).all()


def test_at_the_image_itself_the_divergence_has_no_slope(tiny, batch):
    """HYDRA's fact T20: without its noise the TRADES attack has nothing to climb."""
    x, y = batch[0].double().requires_grad_(), batch[1]
    tiny.double().eval()
    target = tiny(x).softmax(1).detach()
    (flat,) = torch.autograd.grad(kl(tiny(x), target).sum(), x)
    (steep,) = torch.autograd.grad(nn.functional.cross_entropy(tiny(x), y, reduction="sum"), x)
    assert flat.abs().max() < 1e-14 < 1e-4 < steep.abs().max()


def test_worst_of_is_never_better_than_a_member(tiny, batch):
    x, y = batch
    members = {
        "fgsm": partial(pgd, threat=Linf(0.1), steps=1, rel_step=1.0, start="none"),
        "clean": lambda model, x, y: x,
        "l2": partial(pgd, threat=L2(0.3), steps=5, rel_step=0.4, start="none"),
    }
    tiny.eval()

    def standing(attack):
        return tiny(attack(tiny, x, y)).argmax(1) == y

    alone, trail = {name: standing(attack) for name, attack in members.items()}, []
    together = standing(partial(worst_of, attacks=members, trail=trail))
    assert torch.equal(together, torch.stack(list(alone.values())).all(0))
    assert [name for name, _ in trail] == list(members)
    assert torch.equal(trail[0][1], alone["fgsm"])
    assert torch.equal(trail[1][1], alone["fgsm"] & alone["clean"])
    assert torch.equal(trail[2][1], together)
    with pytest.raises(UserError, match="empty"):
        worst_of(tiny, x, y, attacks={})


def test_worst_of_keeps_the_first_that_fools_and_spares_the_rest(linear):
    x, y = (
        torch.full((2, 1, 1, 3), 0.5),
        torch.tensor([0, 1]),
    )  # the model says 1: image 0 falls at once
    seen = []

    def shift(model, x, y, by):
        seen.append(len(x))
        return x + by

    attacks = {"a": partial(shift, by=0.1), "b": partial(shift, by=0.2)}
    x_adv = worst_of(linear, x, y, attacks=attacks)
    assert seen == [2, 1]
    torch.testing.assert_close(x_adv[:, 0, 0, 0], torch.tensor([0.6, 0.7]))


@pytest.fixture
def contested(tiny):
    """Twelve images at which some, but not all, parts of AutoAttack succeed at eps 0.04."""
    x = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    y = tiny.eval()(x).argmax(1)
    y[0] = (y[0] + 1) % 4
    return x, y


def test_autoattack_is_the_package_bit_for_bit_and_says_which_part_broke_what(tiny, contested):
    x, y = contested
    # Four classes: the package aims at nine others and fails, so the reference is told how many
    # there are.
    with torch.random.fork_rng():
        engine = pyautoattack.AutoAttack(tiny.eval(), norm="Linf", eps=0.04, seed=7)
        engine.apgd_targeted.n_target_classes = engine.fab.n_target_classes = 3
        expected, _ = engine.run_standard_evaluation(x, y, batch_size=len(x))
    tiny.train()
    state, trail = copy.deepcopy(tiny.state_dict()), []
    torch.manual_seed(11)
    untouched = torch.rand(3)
    torch.manual_seed(11)
    tracer = sys.gettrace()
    x_adv = autoattack(tiny, x, y, threat=Linf(0.04), seed=7, trail=trail)
    assert torch.equal(torch.rand(3), untouched)
    assert sys.gettrace() is tracer
    assert torch.equal(x_adv, expected)
    assert tiny.training
    assert all(torch.equal(value, state[key]) for key, value in tiny.state_dict().items())
    assert [name for name, _ in trail] == ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]
    counts = [int(flags.sum()) for _, flags in trail]
    assert counts[0] == 11
    assert 0 < counts[-1] < 11
    assert counts == sorted(counts, reverse=True)
    assert torch.equal(trail[-1][1], tiny.eval()(expected).argmax(1) == y)


def test_the_trail_of_custom_parts(tiny, contested):
    x, y = contested
    trail = [("mine", torch.zeros(1))]
    parts = ["apgd-dlr", "fab-t"]
    x_adv = autoattack(
        tiny, x, y, threat=Linf(0.03), version="custom", attacks=parts, seed=1, trail=trail
    )
    assert [name for name, _ in trail] == ["mine", "clean", *parts]
    with torch.random.fork_rng():
        engine = pyautoattack.AutoAttack(
            tiny.eval(), eps=0.03, seed=1, version="custom", attacks=parts
        )
        engine.fab.n_target_classes = 3
        for (_, flags), count in zip(trail[2:], (1, 2), strict=True):
            engine.attacks_to_run = parts[:count]
            reference, _ = engine.run_standard_evaluation(x, y, batch_size=len(x))
            assert torch.equal(flags, tiny(reference).argmax(1) == y)
    assert torch.equal(x_adv, reference)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"version": "standrad"}, "standard, plus, rand, custom"),
        ({"attacks": ["apgd-ce"]}, "version=custom"),
        ({"version": "custom"}, "version=custom"),
        ({"version": "custom", "attacks": ["apgd"]}, "apgd-ce"),
    ],
)
def test_a_wrong_option_of_autoattack_is_an_error(option, said, tiny, batch):
    with pytest.raises(UserError, match=said):
        autoattack(tiny, *batch, threat=Linf(0.1), **option)


def test_autoattack_names_the_cure_for_few_classes_and_for_float64(batch):
    x, y = batch
    with pytest.raises(UserError, match=r"at least 4 classes.*version=custom"):
        autoattack(Tiny(classes=3), x, y.clamp_max(2), threat=Linf(0.1))
    with pytest.raises(UserError, match="float32"):
        autoattack(Tiny().double(), x.double(), y, threat=Linf(0.1))
    parts = ["apgd-ce", "fab-t"]
    few = autoattack(
        Tiny(classes=2), x, y.clamp_max(1), threat=Linf(0.1), version="custom", attacks=parts
    )
    assert few.shape == x.shape


def test_a_sign_of_masked_gradients_is_still_told(tiny, contested, caplog):
    """Only Square fools a net whose gradients are rounded away; pyautoattack warns, and so do its parts run apart."""

    class Steps(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(torch.round(x * 15) / 15) + 0 * x.sum()

    x = contested[0][:4]
    model = Steps(tiny.eval())
    parts = ["apgd-ce", "square"]
    with caplog.at_level(logging.WARNING, logger="auto-attack"):
        autoattack(model, x, model(x).argmax(1), threat=Linf(0.1), version="custom", attacks=parts)
    assert "Square Attack has decreased the robust accuracy" in caplog.text


def test_square_is_the_part_of_autoattack_and_leaves_the_random_state(tiny, batch):
    x, y = batch
    with torch.random.fork_rng():
        engine = pyautoattack.AutoAttack(
            tiny.eval(), eps=0.15, seed=3, version="custom", attacks=["square"]
        )
        expected, _ = engine.run_standard_evaluation(x, y, batch_size=len(x))
    torch.manual_seed(11)
    untouched = torch.rand(3)
    torch.manual_seed(11)
    x_adv = square(tiny.train(), x, y, threat=Linf(0.15), seed=3)
    assert torch.equal(torch.rand(3), untouched)
    right = tiny.eval()(x).argmax(1) == y
    assert torch.equal(x_adv[right], expected[right])
    assert not torch.equal(x_adv[right], x[right])
    with pytest.raises(UserError, match="n_queries"):
        square(tiny, x, y, threat=Linf(0.1), n_queries=0)


@pytest.mark.parametrize("steps", [2, 5, 10, 50])
@pytest.mark.parametrize("start", ["none", "uniform"])
def test_any_number_of_steps_crosses_the_ball_by_default(linear, steps, start):
    x, y = torch.full((3, 1, 1, 3), 0.5), torch.zeros(3, dtype=torch.int64)
    x_adv = pgd(linear, x, y, threat=Linf(0.1), steps=steps, start=start)
    worst = x - 0.1 * torch.tensor([1.0, -3, -0.5]).sign()
    torch.testing.assert_close(
        x_adv, worst
    )  # the corner of the ball; 50 steps of 0.05, the former default, as before
    if steps == 50:
        torch.manual_seed(0)
        one = pgd(linear, x, y, threat=Linf(0.1), steps=steps, start=start)
        torch.manual_seed(0)
        assert torch.equal(
            one, pgd(linear, x, y, threat=Linf(0.1), steps=steps, rel_step=0.05, start=start)
        )


def test_a_pgd_too_short_for_its_ball_is_doubted_wherever_it_stands():
    short = {"_target_": PGD, "steps": 10, "rel_step": 0.05}
    assert too_short(short)[0].startswith(
        "attack.steps=10 of attack.rel_step=0.05 are 0.5 of eps in all: this PGD cannot"
    )
    inside = {
        "_target_": "advprune.attacks.worst_of.worst_of",
        "attacks": {"pgd": short, "fgsm": short | {"steps": 20}},
    }
    assert [doubt.split("=")[0] for doubt in too_short(inside)] == ["attack.attacks.pgd.steps"]
    assert (
        too_short(short | {"rel_step": None})
        == too_short(short | {"steps": 1, "rel_step": 1.0})
        == []
    )


def test_the_squares_shrink_over_the_queries_there_are(tiny, batch, monkeypatch):
    """At AutoAttack's number as AutoAttack has it; at another, the paper's schedule of 10,000 over just so many."""
    shares = {}

    class Seen(SquareAttack):
        def perturb(self, x, y):
            shares[self.n_queries] = [
                self.p_selection(it) for it in (0, self.n_queries // 2, self.n_queries - 1)
            ]
            return x

    monkeypatch.setattr("advprune.attacks.square.SquareAttack", Seen)
    for n_queries in (100, 500, 5000, 10_000):
        square(tiny, *batch, threat=Linf(0.1), n_queries=n_queries)
    paper = [0.8, 0.8 / 128, 0.8 / 512]
    assert shares[100][1:] == shares[500][1:] == pytest.approx([0.8 / 128, 0.8 / 512])
    assert shares[10_000] == pytest.approx(paper)
    assert shares[5000] == pytest.approx([0.8, 0.8 / 64, 0.8 / 128])
