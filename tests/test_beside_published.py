"""Our cell beside the published one: the same network, ratio, attack and radius, and whether they differ."""

from typing import Any

import pytest

from advprune.report.data.beside_published import add_published
from advprune.report.data.intervals import over_images
from advprune.report.data.published import published

PUBLISHED = 0.4334  # HYDRA, ResNet-18 at 0.9, of 10,000 images: 95 % [42.4, 44.3]


def ours(robust: float, **changed: Any) -> dict[str, Any]:
    interval = over_images(round(robust * 10_000), 10_000)
    row = {
        "dataset": "cifar10", "model": "resnet18", "pruner": "hydra", "ratio": 0.9, "norm": "linf", "eps": 0.031,
        "attack": "autoattack eps=0.031", "images": 10_000, "of": 10_000,
        "robust_acc": robust, "robust_acc_interval": interval,
    }  # fmt: skip
    return row | changed


def told(row: dict[str, Any]) -> tuple[Any, Any]:
    add_published([row], published())
    return row.get("published_acc"), row.get("published_versus")


@pytest.mark.parametrize(
    ("robust", "text"),
    [
        (0.44, "+0.7, not significant"),  # two intervals of +-1 point: 1.4 points are needed
        (0.46, "+2.7, significant"),
        (0.41, "-2.3, significant"),
    ],
)
def test_a_difference_of_two_points_on_ten_thousand_images_is_significant(
    robust: float, text: str
) -> None:
    assert told(ours(robust)) == (PUBLISHED, text)


@pytest.mark.parametrize(
    "changed",
    [
        {"eps": 8 / 255},  # not 0.031
        {"attack": "pgd"},
        {"images": 1000},
        {"ratio": 0.91},
        {"model": "resnet20"},
        {"pruner": "random"},
    ],
)
def test_what_is_not_the_same_cell_has_none_beside_it(changed: dict[str, Any]) -> None:
    assert told(ours(0.44, **changed)) == (None, None)


def test_filters_have_the_cells_of_filters() -> None:
    filters = ours(0.4558, pruner="twin_rep_filters", ratio=0.5)
    assert told(filters) == (0.4558, "+0.0, not significant")


def test_every_published_pruner_of_the_benchmark_has_one_of_ours_or_is_named_here() -> None:
    rows = [r for r in published() if r["protocol_id"] == "apb" and r["ours"] is None]
    assert {(row["pruner"], row["unit"]) for row in rows} == {("PwoA", "filters")}
