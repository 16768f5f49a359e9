"""The intervals against their closed forms, and against simulated experiments whose truth is known."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from advprune.report.data.intervals import (
    interval_notes,
    of_difference,
    of_unpaired,
    over_images,
    over_seeds,
    pool,
)
from benchmarks.coverage import BAR, difference_is_inside, share_is_inside

ROW = {"seconds": 1.0, "doubts": [], "dataset": "d", "images": 50}


def test_seeds_that_agree_prove_nothing() -> None:
    """Two seeds at 84.0 % of 50 images: what the images alone leave open, and no less."""
    rows = [
        ROW | {"seed": s, "robust_acc": 0.84, "robust_acc_interval": over_images(42, 50)}
        for s in (0, 1, 2)
    ]
    for some in (rows[:1], rows[:2], rows):
        (row,) = pool(some)
        assert row["robust_acc_interval"] == pytest.approx(over_images(42, 50))
    plain = binomtest(42, 50).proportion_ci(0.95, "wilson")
    assert row["robust_acc_interval"][0] < plain.low < plain.high < row["robust_acc_interval"][1]
    assert over_seeds([0.0, 0.0], [over_images(0, 50)] * 2) == pytest.approx(
        [0, 1 - 0.9109], abs=1e-3
    )


def test_both_reasons_to_doubt_are_in_it() -> None:
    low, high = over_seeds([0.4, 0.6], [[0.3, 0.55], [0.5, 0.75]])
    seeds = 12.7062047 * 0.1  # t of one degree of freedom, times the standard error
    assert [low, high] == pytest.approx(
        [0.5 - math.hypot(seeds, 0.1), 0.5 + math.hypot(seeds, 0.15)]
    )
    assert over_seeds([0.4], [[0.3, 0.55]]) == pytest.approx([0.3, 0.55])


def test_a_difference_is_as_uncertain_as_its_images() -> None:
    low, high = of_difference(10, 4, 100)
    p, q = 11 / 102, 5 / 102
    half = 1.959964 * math.sqrt((p + q - (p - q) ** 2) / 102)
    assert [low, high] == pytest.approx([p - q - half, p - q + half], abs=1e-6)
    low, high = of_difference(0, 0, 50)  # networks that agree on 50 images may differ on the next
    assert low < -0.03 < 0 < 0.03 < high
    assert of_difference(50, 0, 50)[1] >= 1
    assert of_unpaired(0.6, [0.5, 0.7], 0.5, [0.4, 0.6]) == pytest.approx(
        [0.1 - 0.02**0.5, 0.1 + 0.02**0.5]
    )


def test_the_table_says_which_interval_it_is() -> None:
    assert "continuity-corrected" in interval_notes({1})[0]
    assert "images and seeds" in interval_notes({3})[0]
    assert len(interval_notes({1, 2, 3})) == 2


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("share", [0.02, 0.84])
def test_the_truth_is_inside(seeds: int, share: float) -> None:
    """All luck the image's, and seeds that do not differ or do: what the old intervals held 36 and 90 % of."""
    random = np.random.default_rng(seeds)
    for between, alike in ((0.0, 1.0), (0.1, 0.5)):
        setting = {
            "images": 50,
            "share": share,
            "between": between,
            "alike": alike,
            "experiments": 2000,
        }
        assert share_is_inside(random, seeds=seeds, **setting) >= BAR  # type: ignore[arg-type]
    setting = {"images": 50, "share": share, "between": 0.0, "alike": 0.8, "experiments": 1000}
    assert difference_is_inside(random, seeds=seeds, **setting) >= BAR  # type: ignore[arg-type]
