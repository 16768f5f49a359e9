"""Curves are kept with the stage: what a row has, and that a phase counts on; the picture of attacks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from PIL import Image

from advprune.modules import adversarial_images
from advprune.modules.curves import Curves, turnover


def mask(*bits: int) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(bits, dtype=torch.bool)}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (mask(1, 1, 0, 0), mask(1, 1, 0, 0), 0.0),
        (mask(1, 1, 0, 0), mask(0, 0, 1, 1), 1.0),
        (mask(1, 1, 0, 0), mask(1, 0, 1, 0), 2 / 3),  # one of three stays
        (mask(1, 1, 1, 1), mask(1, 0, 0, 0), 0.75),  # a round that prunes
        (mask(0, 0), mask(0, 0), 0.0),
    ],
)
def test_turnover_is_the_distance_of_jaccard(before: Any, after: Any, expected: float) -> None:
    assert turnover(before, after) == pytest.approx(expected)


def test_phases_count_on(tmp_path: Path) -> None:
    """Rounds of training in one stage make one curve; one made again replaces itself and what follows."""
    path = tmp_path / "curves.json"

    def phase(name: str, epochs: int) -> Curves:
        curves = Curves(path, name, lambda row: None)
        start = curves.start
        curves.rows = [
            {"epoch": start["epoch"] + n, "step": start["step"] + 5 * n}
            for n in range(1, epochs + 1)
        ]
        curves.save()
        return curves

    phase("round_1", 2)
    phase("round_2", 1)
    kept = json.loads(path.read_text())
    assert [row["epoch"] for rows in kept.values() for row in rows] == [1, 2, 3]
    assert [row["step"] for rows in kept.values() for row in rows] == [5, 10, 15]
    phase("round_1", 1)
    assert list(json.loads(path.read_text())) == ["round_1"]


def test_a_stage_keeps_its_curves_and_a_found_one_tells_them(job: Any, tmp_path: Path) -> None:
    """All names of the default logger, of a job that makes, and the same file of a job that finds."""
    first = job(*TINY, "ratio=0.9", "search.epochs=3")
    assert "failed" not in first, first.get("failed")
    (path,) = (tmp_path / "stages" / "pruned").glob("*/curves.json")
    (rows,) = json.loads(path.read_text()).values()
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 3), (2, 6), (3, 9)]
    expected = {
        "loss",
        "learning_rate",
        "val_clean_acc",
        "val_robust_acc",
        "sparsity",
        "mask_turnover",
    }
    assert all(set(row) == expected | {"epoch", "step"} for row in rows)
    assert rows[-1]["sparsity"] == pytest.approx(first["row"]["sparsity"])
    told = tmp_path / "job" / "metrics.csv"
    before = _lasting(told)
    assert {line.partition(",")[0] for line in before} >= {
        "dense/loss",
        "finetuned/val_robust_acc",
        "robust_acc_low",
    }
    told.unlink()
    again = job(*TINY, "ratio=0.9", "search.epochs=3")
    assert again["row"]["made"] == 0
    assert _lasting(told) == before
    assert (
        Image.open(Path(again["row"]["files"]["evaluated"]) / "examples.png").size[1]
        > 3 * adversarial_images.SIDE
    )


def _lasting(path: Path) -> list[str]:
    return sorted(path.read_text().splitlines())


def test_perturbations_are_magnified_around_grey() -> None:
    x = torch.full((1, 1, 2, 2), 0.5)
    small, factor = adversarial_images.magnified(
        x, x + torch.tensor([[[[0.0, 0.01], [-0.02, 0.03]]]])
    )
    assert factor == 10.0
    torch.testing.assert_close(small, torch.tensor([[[[0.5, 0.6], [0.3, 0.8]]]]))
    large, factor = adversarial_images.magnified(x, x + 0.25)
    assert factor == 2.0
    torch.testing.assert_close(large, torch.ones_like(x))
    assert adversarial_images.magnified(x, x)[0].eq(0.5).all()


def test_fooled_images_come_first(tmp_path: Path) -> None:
    """Two images, the second fooled: its column, white, stands left of the black one."""
    x = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    label, clean, after = torch.tensor([3, 5]), torch.tensor([3, 5]), torch.tensor([3, 7])
    adversarial_images.save_picture(tmp_path / "a.png", x, x, label, clean, after)
    picture = Image.open(tmp_path / "a.png").convert("L")
    middle = 20 + 4 + adversarial_images.SIDE // 2
    assert picture.getpixel((96 + 4 + adversarial_images.SIDE // 2, middle)) == 255
    assert (
        picture.getpixel((96 + 8 + adversarial_images.SIDE + adversarial_images.SIDE // 2, middle))
        == 0
    )
