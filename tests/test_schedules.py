"""Schedules against the printed values of HYDRA's code (its facts T17, T18 and T27)."""

import pytest

from advprune.modules.optim import cosine, cosine_authors, one_cycle, step
from advprune.schedules import eps_ramp, iw


def test_cosine():
    assert [cosine(p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize(
    ("epochs", "epoch", "lr"),
    [
        (20, 0, 0.09938442),
        (20, 1, 0.1),
        (20, 19, 0.00244717),
        (100, 0, 0.09997533),
        (100, 1, 0.1),
        (100, 99, 9.866e-5),
    ],
)
def test_the_authors_cosine_peaks_an_epoch_late(epochs, epoch, lr):
    assert 0.1 * cosine_authors(epoch, epochs) == pytest.approx(lr, rel=1e-4, abs=5e-9)


def test_step_changes_at_the_very_epoch():
    assert [step(e / 100) for e in (0, 74, 75, 89, 90, 99)] == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_one_cycle_is_a_triangle():
    assert [one_cycle(p) for p in (0, 0.2, 0.4, 0.7, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert one_cycle(0.25, rise=0.5) == pytest.approx(0.5)


def test_mixtrain_weights():
    late = {
        0: 0.1,
        19: 0.1,
        20: 0.25,
        25: 0.625,
        30: 1.5625,
        35: 3.90625,
        40: 9.765625,
        45: 24.4140625,
        49: 24.4140625,
    }
    assert {e: iw(e, 15) for e in late} == pytest.approx(late)
    assert iw(50, 15) == iw(59, 15) == 50
    assert [iw(e) for e in (0, 4, 5, 10, 15, 35)] == pytest.approx(
        [0.1, 0.1, 0.25, 0.625, 1.5625, 50]
    )


def test_eps_ramps():
    assert [0.007 * eps_ramp(e, 15) for e in (0, 1, 14, 15, 40)] == pytest.approx(
        [0, 0.007 / 15, 0.007 * 14 / 15, 0.007, 0.007]
    )
    assert 0.007 * eps_ramp(60, 119) == pytest.approx(0.0035294, abs=1e-7)
    assert 1 - eps_ramp(60, 119) == pytest.approx(0.4958, abs=1e-4)
    assert eps_ramp(0, 0) == 1  # full eps at once
