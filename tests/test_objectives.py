"""Training losses against arithmetic done by hand and against slow renderings of the papers' formulas."""

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from advprune.attacks.pgd import pgd
from advprune.errors import UserError
from advprune.logits import kl
from advprune.objectives.adversarial import adversarial
from advprune.objectives.distillation import distillation
from advprune.objectives.free import Free
from advprune.objectives.mart import mart
from advprune.objectives.natural import natural
from advprune.objectives.trades import trades
from advprune.threat import L2, Linf

EPS = 0.1
TRADES_10 = partial(pgd, threat=Linf(EPS), steps=10, rel_step=0.25, loss=kl, start="gaussian")


class Table(nn.Module):
    """Logits looked up by the value of the image's only pixel: 0 -> ``clean``, 1 -> ``attacked``."""

    def __init__(self, clean, attacked):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([clean, attacked]))

    def forward(self, x):
        return self.logits[x.flatten().long()]


def to_one(model, x, y):
    """An attack for ``Table``."""
    return torch.ones_like(x)


PIXEL, ZERO = torch.zeros(1, 1, 1, 1), torch.tensor([0])


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )
    return model.double()


def images(count: int = 5):
    """Pixels off 0 and 1, so that the papers' start, which is not clipped, is ours."""
    generator = torch.Generator().manual_seed(1)
    x = 0.2 + 0.6 * torch.rand(count, 1, 6, 6, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (count,), generator=generator)


def gradients(model: nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def count_forwards(model: nn.Module) -> list[bool]:
    """The mode of each forward, as they happen."""
    modes: list[bool] = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    return modes


def test_natural_is_cross_entropy():
    loss = natural(Table([0.0, 0.0], [9.0, 0.0]), PIXEL, ZERO, progress=0.0)
    assert loss.item() == pytest.approx(0.693147, abs=1e-6)


def test_adversarial_is_cross_entropy_where_the_attack_points():
    loss = adversarial(Table([9.0, 0.0], [0.0, 0.0]), PIXEL, ZERO, progress=0.5, attack=to_one)
    assert loss.item() == pytest.approx(0.693147, abs=1e-6)


def test_trades_of_t19():
    model = Table([0.0, 0.0], [math.log(3), 0.0])
    loss = trades(model, PIXEL, ZERO, progress=0.0, attack=to_one, beta=6.0)
    assert loss.item() == pytest.approx(1.556193, abs=1e-6)
    # By hand, p = (1/2, 1/2), q = (3/4, 1/4): q - p through the second argument; through the first
    # p * (log(p/q) - KL), and p - (1, 0) from the cross-entropy.
    loss.backward()
    torch.testing.assert_close(model.logits.grad[1], 6 * torch.tensor([0.25, -0.25]))
    ratio = torch.tensor([2 / 3, 2.0]).log()
    by_hand = torch.tensor([-0.5, 0.5]) + 6 * 0.5 * (ratio - 0.143841)
    torch.testing.assert_close(model.logits.grad[0], by_hand, rtol=1e-5, atol=1e-5)


def test_trades_10_makes_13_forwards_two_of_them_in_train_mode():
    model, (x, y) = network(), images()
    modes = count_forwards(model)
    trades(model, x, y, progress=0.0, attack=TRADES_10).backward()
    assert modes == [False] * 11 + [True] * 2
    assert model[1].num_batches_tracked == 2


def test_trades_takes_its_natural_batch_first():
    model, (x, y) = network(), images()
    with torch.no_grad():
        activations = model[0](x).mean((0, 2, 3))
    model[1].momentum = None  # the running mean is then the plain mean of the batches' means
    seen = []
    model.register_forward_hook(lambda module, *_: seen.append(module[1].running_mean.clone()))
    trades(model, x, y, progress=0.0, attack=TRADES_10)
    torch.testing.assert_close(seen[-2], activations)


def slow_trades(model, x, y, beta):
    """The formula, word for word: the target anew in each step, both divergences summed over classes by hand."""
    model.eval()
    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(10):
        x_adv = x_adv.detach().requires_grad_()
        p, q = model(x).softmax(1), model(x_adv).softmax(1)
        (grad,) = torch.autograd.grad((p * (p.log() - q.log())).sum(), x_adv)
        x_adv = (x_adv + 0.25 * EPS * grad.sign()).detach()
        x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0, 1)
    model.train()
    p, q = model(x).softmax(1), model(x_adv).softmax(1)
    natural_loss = -p[torch.arange(len(y)), y].log().mean()
    return natural_loss + beta * (p * (p.log() - q.log())).sum() / len(x)


def test_the_gradient_of_trades_is_that_of_the_slow_rendering():
    x, y = images()
    ours, slow = network(), network()
    torch.manual_seed(5)
    loss = trades(ours, x, y, progress=0.0, attack=TRADES_10, beta=6.0)
    torch.manual_seed(5)
    reference = slow_trades(slow, x, y, 6.0)
    torch.testing.assert_close(loss, reference, rtol=0, atol=1e-9)
    for mine, theirs in zip(gradients(ours, loss), gradients(slow, reference), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


def test_the_natural_side_of_the_divergence_is_not_cut_off():
    """With the target detached the gradient is another one."""
    model, (x, y) = network().eval(), images()
    shifted = partial(trades, progress=0.0, attack=lambda model, x, y: x + 0.05)
    whole = gradients(model, shifted(model, x, y))
    target = model(x).softmax(1).detach()
    cut = gradients(model, F.cross_entropy(model(x), y) + 6 * kl(model(x + 0.05), target).mean())
    assert max((a - b).abs().max().item() for a, b in zip(whole, cut, strict=True)) > 1e-3


def slow_mart(model, x, y, x_adv, beta):
    p, q = model(x).softmax(1), model(x_adv).softmax(1)
    total = torch.zeros((), dtype=x.dtype)
    for i, label in enumerate(y.tolist()):
        wrong = max(q[i, k] for k in range(q.shape[1]) if k != label)
        boosted = -q[i, label].log() - (1 - wrong).log()
        divergence = sum(p[i, k] * (p[i, k] / q[i, k]).log() for k in range(q.shape[1]))
        total = total + boosted + beta * divergence * (1 - p[i, label])
    return total / len(y)


def test_mart_is_the_formula_image_by_image():
    model, (x, y) = network().eval(), images()
    loss = mart(model, x, y, progress=0.0, attack=lambda model, x, y: x + 0.1, beta=5.0)
    reference = slow_mart(model, x, y, x + 0.1, 5.0)
    torch.testing.assert_close(loss, reference)
    for mine, theirs in zip(gradients(model, loss), gradients(model, reference), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_mart_stays_finite_when_a_wrong_class_is_certain():
    model = Table([-200.0, 200.0, 0.0], [-200.0, 200.0, 0.0])
    loss = mart(model, PIXEL, ZERO, progress=0.0, attack=to_one)
    loss.backward()
    assert loss.item() == pytest.approx(400 + 200)  # -log p_y = 400; 1 - p of class 1 is exp(-200)
    assert torch.isfinite(model.logits.grad).all()


@pytest.mark.parametrize("objective", [trades, mart])
def test_a_negative_weight_is_an_error(objective):
    with pytest.raises(UserError, match="at least 0"):
        objective(network(), *images(), progress=0.0, attack=to_one, beta=-1.0)


@pytest.mark.parametrize("objective", [adversarial, mart])
def test_the_attack_sees_eval_mode_and_the_loss_the_mode_it_finds(objective):
    model, (x, y) = network(), images()
    attack = partial(pgd, threat=Linf(EPS), steps=3)
    for mode in (True, False):
        modes = count_forwards(model.train(mode))
        objective(model, x, y, progress=0.0, attack=attack).backward()
        assert modes[:3] == [False] * 3
        assert set(modes[3:]) == {mode}
        assert model.training is mode


def test_an_objective_works_under_no_grad():
    model, (x, y) = network(), images()
    with torch.no_grad():
        assert not trades(model, x, y, progress=0.0, attack=TRADES_10).requires_grad


@pytest.mark.parametrize("threat", [Linf(EPS), L2(EPS)])
def test_free_ascends_by_the_gradient_of_the_same_backward(threat):
    """Two replays of one batch by hand: step, clip to the ball, weights in between; then a smaller batch."""
    model, (x, y) = network().eval(), images()
    x[:, :, :3] = x[:, :, :3].round()  # black and white pixels must move as well
    objective, by_hand = Free(threat=threat, replays=2, rel_step=0.75), copy.deepcopy(model)
    delta = torch.zeros_like(x)
    for count in (5, 5, 3):
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (model, by_hand)]
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = objective(model, x[:count], y[:count], progress=0.0)
        loss.backward()
        moved = (x[:count] + delta[:count]).clamp(0, 1).requires_grad_()
        reference = F.cross_entropy(by_hand(moved), y[:count])
        reference.backward()
        torch.testing.assert_close(loss, reference)
        for optimizer in optimizers:
            optimizer.step()
        if threat.norm == "linf":
            delta[:count] = (delta[:count] + 0.75 * EPS * moved.grad.sign()).clamp(-EPS, EPS)
        else:
            for i, grad in enumerate(moved.grad):
                delta[i] += 0.75 * EPS * grad / grad.norm()
                delta[i] *= min(1.0, EPS / delta[i].norm().item())
        torch.testing.assert_close(objective.noise, delta)
    assert (delta != 0).float().mean() > 0.9


def test_free_goes_on_from_its_state_dict():
    model, (x, y) = network().eval(), images()
    first = Free(threat=Linf(EPS))
    assert first.replays == 4
    first(model, x, y, progress=0.0).backward()
    second = Free(threat=Linf(EPS))
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.noise, first.noise)
    assert second.noise.abs().max() == EPS
    assert torch.equal(second(model, x, y, progress=0.0), first(model, x, y, progress=0.0))
    with torch.no_grad():
        first(model, x, y, progress=0.0)
    assert torch.equal(second.noise, first.noise)
    with pytest.raises(UserError, match="start afresh"):
        first(model, torch.rand(2, 1, 5, 5), y[:2], progress=0.0)


def test_free_grows_with_the_batch_and_keeps_what_it_has():
    model, (x, y) = network().eval(), images()
    objective = Free(threat=Linf(EPS))
    objective(model, x[:2], y[:2], progress=0.0).backward()
    before = objective.noise.clone()
    objective(model, x, y, progress=0.0)
    assert torch.equal(objective.noise[:2], before)
    assert torch.equal(objective.noise[2:], torch.zeros_like(x[2:]))


@pytest.mark.parametrize("option", [{"replays": 0}, {"rel_step": 0.0}])
def test_a_wrong_option_of_free_is_an_error(option):
    with pytest.raises(UserError, match="is not possible: it must be"):
        Free(threat=Linf(EPS), **option)


@pytest.mark.parametrize(
    "objective",
    [natural, partial(adversarial, attack=to_one), partial(trades, attack=to_one, beta=0.0)],
)
def test_label_smoothing_spreads_a_share_over_all_classes(objective):
    """Of 0.3 over three classes each gets 0.1, and the label keeps 0.8."""
    model = Table([2.0, 0.0, -1.0], [2.0, 0.0, -1.0])
    logs = torch.tensor([2.0, 0.0, -1.0]).log_softmax(0)
    expected = -(0.8 * logs[0] + 0.1 * logs[1] + 0.1 * logs[2])
    found = objective(model, PIXEL, ZERO, progress=0.0, label_smoothing=0.3)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    plain = objective(model, PIXEL, ZERO, progress=0.0)
    assert plain.item() == pytest.approx(-logs[0].item(), rel=1e-6)


@pytest.mark.parametrize(("mode", "moves"), [(None, 1), ("eval", 1), ("train", 5)])
def test_the_mode_of_the_attacked_network(mode, moves):
    """In train mode each of the four attack steps moves the running statistics, too."""
    model, (x, y) = network().float().train(), (torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 0]))
    attack = partial(pgd, threat=Linf(EPS), steps=4, rel_step=0.25)
    adversarial(model, x, y, progress=0.0, attack=attack, attack_mode=mode).backward()
    assert int(model[1].num_batches_tracked) == moves
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is not None for parameter in model.parameters())


class Fixed(nn.Module):
    """Logits that are parameters."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x):
        return self.logits


def test_distillation_at_high_temperature_is_half_the_mean_square_of_centred_logits():
    """The limit of many degrees: |(z - mean z) - (t - mean t)|^2 / (2 C)."""
    drawn = torch.Generator().manual_seed(0)
    z, t = (torch.randn(6, 10, generator=drawn, dtype=torch.float64) for _ in range(2))
    apart = (z - z.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
    limit = (apart**2).sum(1).mean() / 20
    x, y = torch.zeros(6, 1), torch.zeros(6).long()
    for temperature, close in ((30.0, 0.03), (1e4, 1e-4)):
        loss = distillation(
            Fixed(z), x, y, progress=0.0, teacher=lambda _: t, temperature=temperature
        )
        assert loss.item() == pytest.approx(limit.item(), rel=close)


def test_distilling_what_is_known_gives_nothing():
    student = Fixed(torch.randn(6, 10))
    teacher = Fixed(student.logits.detach().clone())
    loss = distillation(
        student, torch.zeros(6, 1), torch.zeros(6).long(), progress=0.0, teacher=teacher
    )
    loss.backward()
    assert abs(loss.item()) < 1e-4
    assert student.logits.grad.abs().max() < 1e-5
    assert teacher.logits.grad is None


def test_a_teacher_of_other_classes_is_refused():
    with pytest.raises(UserError, match="the teacher tells 3 classes apart and the network 10"):
        distillation(
            Fixed(torch.zeros(2, 10)),
            torch.zeros(2, 1),
            torch.zeros(2).long(),
            progress=0.0,
            teacher=lambda _: torch.zeros(2, 3),
        )
