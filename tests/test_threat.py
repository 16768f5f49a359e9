"""The balls, by their definitions; borrowing a model and giving it back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advprune.errors import UserError
from advprune.frozen import frozen, preserve_rng
from advprune.logits import cross_entropy, dlr, kl, margin
from advprune.threat import L2, Linf

X = torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("eps", [0, -0.1, 8, "8", 1.5, "nonsense", True])
def test_an_eps_out_of_range_is_refused_with_the_cure(eps):
    with pytest.raises(UserError, match="8/255"):
        Linf(eps)


def test_eps_is_read_as_papers_write_it():
    assert Linf("8/255").eps == 8 / 255
    assert L2("128/255") == L2(128 / 255) != Linf("128/255")
    assert L2(10).eps == 10
    with pytest.raises(UserError):
        L2(10.1)
    assert (Linf(0.1).norm, L2(0.1).norm) == ("linf", "l2")


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.7)])
def test_sample_and_project_stay_in_the_ball_and_in_the_pixels(threat):
    torch.manual_seed(0)
    wild = X + torch.randn_like(X)
    for x_adv in (threat.sample(X), threat.project(wild, X)):
        assert threat.distance(x_adv, X).max() <= threat.eps + 1e-6
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1
    inside = X + 0.01 * threat.steepest(0.5 - X)
    torch.testing.assert_close(threat.project(inside, X), inside)


def test_projection_closed_form():
    x = torch.tensor([[[[0.5, 0.5]]], [[[0.5, 0.05]]]])
    x_adv = torch.tensor([[[[0.8, 0.1]]], [[[0.5, -0.9]]]])
    expected = torch.tensor([[[[0.6, 0.4]]], [[[0.5, 0.0]]]])
    torch.testing.assert_close(Linf(0.1).project(x_adv, x), expected)
    # The change (0.3, -0.4) has length 0.5: at radius 0.25 it is halved.
    torch.testing.assert_close(L2(0.25).project(x_adv, x)[0], torch.tensor([[[0.65, 0.3]]]))
    torch.testing.assert_close(L2(0.25).distance(x_adv, x), torch.tensor([0.5, 0.95]))


def test_samples_fill_the_ball():
    torch.manual_seed(0)
    x = torch.full((4000, 1, 1, 2), 0.5)
    linf = (Linf(0.1).sample(x) - x).flatten()
    assert linf.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)
    radius = L2(0.1).distance(L2(0.1).sample(x), x)
    assert (radius < 0.05).float().mean().item() == pytest.approx(
        0.25, abs=0.03
    )  # area, in two dimensions


@given(scale=st.floats(-35, 30))
@settings(deadline=None, max_examples=25)
def test_the_l2_direction_has_length_one_at_any_scale_of_the_gradient(scale):
    grad = torch.tensor([[[[3.0, -4.0]]]]) * 10.0**scale
    torch.testing.assert_close(
        L2(0.1).steepest(grad), torch.tensor([[[[0.6, -0.8]]]]), rtol=1e-3, atol=1e-3
    )


def test_no_gradient_no_direction():
    for threat in (Linf(0.1), L2(0.1)):
        assert torch.equal(threat.steepest(torch.zeros_like(X)), torch.zeros_like(X))


def test_frozen_gives_back_each_mode_and_flag_also_after_an_error():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    model[1].eval()
    model[0].bias.requires_grad_(False)
    before = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]

    def borrow():
        with frozen(model) as borrowed:
            assert borrowed is model
            assert not any(m.training for m in model.modules())
            assert not any(p.requires_grad for p in model.parameters())
            with frozen(model):
                pass
            assert not any(p.requires_grad for p in model.parameters())
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        borrow()
    assert (
        [m.training for m in model.modules()],
        [p.requires_grad for p in model.parameters()],
    ) == before


def test_rng_kept():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with preserve_rng():
        torch.manual_seed(99)
        torch.rand(7)
    assert torch.equal(torch.rand(4), expected)


def test_losses_closed_form():
    logits = torch.tensor([[3.0, 1.0, 0.0, -2.0], [0.0, 5.0, 1.0, 1.0]])
    y = torch.tensor([0, 2])
    torch.testing.assert_close(margin(logits, y), torch.tensor([-2.0, 4.0]))
    torch.testing.assert_close(dlr(logits, y), torch.tensor([-2 / 3, 4 / 4]))
    torch.testing.assert_close(cross_entropy(torch.zeros(1, 4), y[:1]), torch.tensor([4.0]).log())
    with pytest.raises(UserError, match="3 classes"):
        dlr(torch.zeros(1, 2), y[:1])


def test_kl_of_t19_and_its_gradient_where_softmax_underflows():
    half = torch.tensor([[0.5, 0.5]])
    assert kl(torch.tensor([[3.0, 1.0]]).log(), half).item() == pytest.approx(0.143841, abs=1e-6)
    natural = torch.tensor([[0.0, -300.0]], requires_grad=True)
    value = kl(torch.tensor([[0.0, 0.0]]), natural.softmax(1)).sum()
    value.backward()
    assert value.item() == pytest.approx(0.693147, abs=1e-6)
    assert torch.isfinite(natural.grad).all()
    with pytest.raises(UserError, match="soften"):
        kl(torch.zeros(2, 3), torch.tensor([0, 1]))
