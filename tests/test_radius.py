"""Certified accuracy over radius, with answers known beforehand."""

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from advprune.errors import UserError
from advprune.report.curves.certified_accuracy import lines, points
from advprune.report.curves.radius import draw, main


def records(folder: Path, radii: list[float], *, wrong: int = 0, abstained: int = 0) -> str:
    """Records of images with these radii; the first ``wrong`` have another label, the last ``abstained`` no answer."""
    folder.mkdir()
    labels = [1] * wrong + [0] * (len(radii) - wrong)
    gave_up = [i >= len(radii) - abstained for i in range(len(radii))]
    columns = {
        "label": labels,
        "certified_pred": [-1 if gone else 0 for gone in gave_up],
        "abstained": gave_up,
    }
    pd.DataFrame(columns | {"radius": radii}).to_parquet(folder / "records.parquet")
    return str(folder)


def row(
    folder: Path, seed: int, pruner: str, ratio: float, radii: list[float], dense: str, **kinds: int
) -> Any:
    path = records(folder / f"{pruner}{ratio}{seed}", radii, **kinds)
    return {
        "dataset": "mnist",
        "model": "cnn_small",
        "objective": "smoothing",
        "attack": "certify_smoothing",
        "norm": "linf",
        "smoothed": True,
        "certified_acc": 0.5,
        "pruner": pruner,
        "ratio": ratio,
        "seed": seed,
        "files": {"evaluated": path},
        "dense_records": f"{dense}/records.parquet",
    }


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Dense: 0.5 on all images of seed 0, on half of seed 1's. Hydra: 0.3, or wrong, or abstained."""
    dense = [records(tmp_path / "d0", [0.5] * 4), records(tmp_path / "d1", [0.5, 0.5, 0.1, 0.1])]
    hydra = [
        row(tmp_path, seed, "hydra", 0.9, [0.3, 0.3, 0.3, 0.0], dense[seed], wrong=1, abstained=1)
        for seed in (0, 1)
    ]
    return [*hydra, row(tmp_path, 0, "magnitude", 0.9, [0.2] * 4, dense[0])]


def test_shares_of_images_whose_right_class_is_proved_so_far(rows, tmp_path: Path) -> None:
    found = {line.name: line for line in lines([*rows, {"certified_acc": None}])}
    assert list(found) == ["dense", "hydra 0.9", "magnitude 0.9"]
    assert found["dense"].words[-1] == "l2"  # of the certificate, whatever the threat
    assert [found["dense"].certified(r) for r in (0.0, 0.1, 0.11, 0.5, 0.51)] == [
        [1, 1],
        [1, 1],
        [1, 0.5],
        [1, 0.5],
        [0, 0],
    ]
    assert found["hydra 0.9"].certified(0.0) == [
        0.5,
        0.5,
    ]  # wrong and abstained images are proved nowhere
    assert found["hydra 0.9"].abstained == {0: 0.25, 1: 0.25}
    assert found["dense"].mean_radius() == pytest.approx((0.5 + 0.3) / 2)
    assert found["dense"].interval(0.5) == pytest.approx(
        [-2.4666, 3.9331], abs=1e-4
    )  # hypot of 12.7 / 4 with 0.5062, 0.2041
    assert found["magnitude 0.9"].interval(0.2) == pytest.approx(
        [0.3958, 1.0], abs=1e-4
    )  # Wilson, 4 of 4


def test_points_and_files(rows, tmp_path: Path, capsys) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "table.json").write_text(json.dumps(rows))
    main([str(tmp_path / "out"), str(tmp_path / "table.json")])
    told = json.loads((tmp_path / "out/radius.json").read_text())
    assert told == points(lines(rows))
    at = {(point["line"], point["radius"]): point for point in told}
    assert at["hydra 0.9", 0.3]["certified_acc"] == 0.5
    assert at["hydra 0.9", 0.31]["certified_acc"] == 0
    assert (at["dense", 0.2]["least"], at["dense", 0.2]["most"], at["dense", 0.2]["seeds"]) == (
        0.5,
        1.0,
        2,
    )
    assert (
        max(radius for _, radius in at) == 0.51
    )  # a step beyond the last, where every line is at 0
    assert all(point["certified_acc"] == 0 for point in told if point["radius"] == 0.51)
    with (tmp_path / "out/radius.csv").open() as file:
        assert [float(point["certified_acc"]) for point in csv.DictReader(file)] == [
            p["certified_acc"] for p in told
        ]
    assert (tmp_path / "out/radius.png").read_bytes()[1:4] == b"PNG"
    assert "hydra 0.9" in capsys.readouterr().out


def test_lines_are_told_apart_by_the_words_that_differ(rows, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    other = row(tmp_path, 0, "hydra", 0.99, [0.1] * 4, str(tmp_path / "d0")) | {
        "objective": "gaussian"
    }
    found = lines([*rows, other])
    assert {point["line"] for point in points(found)} >= {
        "hydra 0.9 smoothing",
        "hydra 0.99 gaussian",
    }
    draw(found, tmp_path / "a.png")


def test_mistakes(rows, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="certify_smoothing"):
        lines([{"certified_acc": None}])
    with pytest.raises(UserError, match="from the folder"):
        lines([rows[0] | {"files": {"evaluated": "elsewhere"}}])
    with pytest.raises(UserError, match="two evaluations of hydra"):
        lines([*rows, rows[0] | {"files": {"evaluated": str(tmp_path / "d0")}}])
    with pytest.raises(UserError, match="at least one grid"):
        main([str(tmp_path)])
