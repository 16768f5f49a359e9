"""The comparison at matched clean accuracy, with answers known beforehand."""

import math
from pathlib import Path
from typing import Any

import pytest

from advprune.report.curves.compression import draw
from advprune.report.curves.compression_points import QUANTITIES, curves, interpolated, matched


def rows(pruner: str, seed: int, points: dict[float, tuple[float, float]]) -> list[dict[str, Any]]:
    told = []
    for compression, (clean, transferred) in points.items():
        row = {"pruner": pruner, "compression": compression, "seed": seed, "clean_acc": clean}
        row |= {
            f"{name}_interval": [0.0, 1.0] for name in ("clean_acc", "robust_acc", "transfer_rate")
        }
        told.append(row | {"robust_acc": 0.1, "source": None})
        told.append(
            row
            | {
                "target_acc": transferred,
                "target_acc_interval": [transferred - 0.03, transferred + 0.04],
                "both_correct": 0.0,
                "transfer_rate": None,
                "source": "dense",
            }
        )
    return told


def test_a_line_is_read_between_its_points_and_not_beyond() -> None:
    points = [(0.9, 0.5), (0.5, 0.1), (0.7, 0.2)]
    assert interpolated(points, 0.8) == pytest.approx(0.35)
    assert interpolated(points, 0.6) == pytest.approx(0.15)
    assert interpolated(points, 0.91) is None
    assert interpolated([(0.5, 0.1), (0.5, 0.3)], 0.5) == 0.1


def test_a_damaged_network_gets_no_credit_for_its_damage(tmp_path: Path) -> None:
    # the rival transfers at half its clean accuracy; gap at half of its own plus 5 and 7 points
    found = curves(
        [
            row
            for seed in (0, 1)
            for row in rows("magnitude", seed, {2.01: (0.9, 0.45), 8.0: (0.5, 0.25)})
        ]
        + rows("gap", 0, {2.01: (0.8, 0.45), 8.0: (0.4, 0.3)})
        + rows("gap", 1, {2.01: (0.6, 0.37), 8.0: (0.3, 0.3)})
    )
    (row,) = matched(found, "gap")
    assert (row["rival"], row["compression"], row["seeds"]) == ("magnitude", 2.0, 2)
    assert row["difference"] == pytest.approx(0.06)
    assert row["clean_acc"] == pytest.approx(0.7)
    half = math.hypot(
        0.05, 12.7062 * 0.01
    )  # over images 3 and 4 points of each, as if of different ones; over seeds 1
    assert row["interval"] == pytest.approx([0.06 - half, 0.06 + half], abs=1e-5)
    pytest.importorskip("matplotlib")
    for column, _, title in QUANTITIES:
        draw(found, column, title, tmp_path / f"{column}.png")
        assert (tmp_path / f"{column}.png").read_bytes()[1:4] == b"PNG"
