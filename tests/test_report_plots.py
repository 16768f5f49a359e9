"""What the plots are drawn from, with answers known beforehand; and that each kind is drawn, or says what it needs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from advprune.modules.weights_io import save_masks, save_weights
from advprune.report.build import build
from advprune.report.data.published import published_for
from advprune.report.data.runs import Run, StoredStage
from advprune.report.data.store_reader import Reader
from advprune.report.plots import sparsity
from advprune.report.plots.data import PlotData
from advprune.report.plots.layers import layer_sparsity
from advprune.report.plots.looks import Looks
from advprune.report.plots.overlap import overlap, packed_mask
from advprune.report.plots.pareto import front
from advprune.report.plots.style import Plot, slug
from benchmarks.report import Synthetic, options_of

SHAPES = {"conv1.weight": (4, 1, 3, 3), "linear.weight": (10, 16)}
KINDS = ("accuracy-against-sparsity", "pareto-fronts", "per-layer-sparsity", "mask-overlap")


def test_the_front_is_what_none_beats() -> None:
    points = [(1.0, 5.0), (2.0, 5.0), (3.0, 1.0), (2.5, 0.5), (3.0, 0.9), (2.0, 4.0)]
    assert front(points) == [(2.0, 5.0), (3.0, 1.0)]
    assert front([(1.0, 1.0)]) == [(1.0, 1.0)]


def test_overlap_is_both_over_either(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    drawn = [{"b": random.random((3, 7)) < 0.3, "a": random.random(11) < 0.3} for _ in range(2)]
    sets = [{(n, i) for n, mask in masks.items() for i in np.flatnonzero(mask)} for masks in drawn]
    for name, masks in zip("xy", drawn, strict=True):
        save_masks({n: torch.from_numpy(mask) for n, mask in masks.items()}, tmp_path / name)
    found = overlap(packed_mask(tmp_path / "x"), packed_mask(tmp_path / "y"))
    assert found == len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    assert overlap(packed_mask(tmp_path / "x"), packed_mask(tmp_path / "x")) == 1
    (tmp_path / "bad").write_bytes(b"no masks")
    with pytest.raises(ValueError, match="bad cannot be read"):
        packed_mask(tmp_path / "bad")


def test_published_filters_are_not_drawn_into_a_line_of_weights() -> None:
    pytest.importorskip("matplotlib")
    ours: dict[str, Any] = dict.fromkeys(("source", "quantizer", "certified_acc")) | {
        "dataset": "cifar10",
        "model": "resnet18",
        "objective": "trades",
        "attack": "autoattack",
        "norm": "linf",
        "eps": 8 / 255,
        "images": 10_000,
        "options": "",
        "seeds": 1,
        "unit": "weights",
        "pruner": "hydra",
        "ratio": 0.9,
        "sparsity": 0.9,
        "clean_acc": 0.8,
        "robust_acc": 0.4,
    }
    rows = [ours | {"network": str(ratio), "ratio": ratio} for ratio in (0.9, 0.95, 0.99)]
    assert list(sparsity.draw(PlotData(rows[:2], published_for([ours]), {}))) == []
    (plot,) = sparsity.draw(PlotData(rows, published_for([ours]), {}))
    assert plot.drawn.count("<title>hydra 0.95: 40.0 %</title>") == 1
    assert ">HARP (weights), published<" in plot.drawn
    assert "(filters)" not in plot.drawn
    assert ">0.75<" not in plot.drawn  # a ratio of filters only


def test_layers_of_a_smaller_network_are_what_is_left_of_each(tmp_path: Path) -> None:
    before = {
        "conv1.weight": torch.zeros(8, 1, 3, 3),
        "bn.bias": torch.zeros(8),
        "gone.weight": torch.zeros(4, 8),
    }
    save_weights(tmp_path / "model.safetensors", before)
    (tmp_path / "pruned").mkdir()
    save_weights(
        tmp_path / "pruned" / "model.safetensors", {"conv1.weight": torch.zeros(6, 1, 3, 3)}
    )
    stages = [
        StoredStage(k, k, f, {}, {}, "")
        for k, f in (("dense", tmp_path), ("pruned", tmp_path / "pruned"))
    ]
    assert layer_sparsity(Run((*stages, StoredStage("evaluated", "e", tmp_path, {}, {}, "")))) == {
        "conv1.weight": 0.25,
        "gone.weight": 1.0,
    }


def test_a_drawing_has_the_colours_of_paper_in_a_file_and_of_the_page_inline() -> None:
    drawn = '<?xml?><svg><path id="a" style="fill: #0d0e01; stroke: #010203"/><use href="#a" clip-path="url(#c)"/></svg>'
    plot = Plot("p", "kind", 'a "title"', "said", drawn)
    assert "fill: #c8500a; stroke: #1a1d21" in plot.file()
    inline = plot.inline()
    assert 'style="fill: var(--series-1); stroke: var(--ink)"' in inline
    assert f'id="{plot.prefix}-a"' in inline
    assert f'href="#{plot.prefix}-a"' in inline
    assert f"url(#{plot.prefix}-c)" in inline
    assert 'aria-label="a &quot;title&quot;. said"' in inline


def test_a_name_keeps_its_look_and_no_two_share_one() -> None:
    looks = Looks(["hydra"])
    every = [tuple(looks.of(name).values()) for name in ["hydra", *map(str, range(23))]]
    assert looks.of("hydra")["color"] == "#0d0e00"
    assert len(set(every)) == 24
    assert slug("Accuracy, % [a]") == "accuracy-a"


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> Path:
    """Three pruners at two ratios, and their dense parent."""
    folder = tmp_path_factory.mktemp("plots")
    store = Synthetic(folder / "stages", SHAPES)
    for number, name in enumerate(("hydra", "magnitude", "random")):
        options = options_of(f"pruner={name}")
        for ratio in (0.9, 0.99):
            right = [i < 100 - 60 * (ratio > 0.9) - 20 * number for i in range(120)]
            store.job(
                options | {"ratio": ratio},
                robust=right,
                dense=[i < 110 for i in range(120)],
                draw=(0, 1, 5)[number],  # masks that keep something
            )
    return folder


def test_each_kind_is_drawn_or_says_what_it_needs(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = build(made / "stages", tmp_path / "report", [])
    assert report.problems == []
    drawn = {path.stem: path.read_text() for path in (tmp_path / "report" / "plots").glob("*.svg")}
    for kind in KINDS:
        (found, *_) = [text for name, text in drawn.items() if name.startswith(kind)]
        assert ">magnitude<" in found
    assert not any(name.startswith(("transfer", "robust")) for name in drawn)
    said = " ".join(report.left_out)
    for kind in ("Robust accuracy against eps", "Transfer"):
        assert f"{kind}: nothing to show yet; it needs " in said
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("<figure>") == len(drawn)
    assert all(sentence.partition(";")[0] in page for sentence in report.left_out)


def test_a_damaged_mask_is_named_and_the_rest_is_drawn(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import shutil

    shutil.copytree(made / "stages", tmp_path / "stages")
    run = next(run for run in Reader(tmp_path / "stages").runs() if run.stage("pruned"))
    broken = run.stage("pruned").folder / "masks.safetensors"  # type: ignore[union-attr]
    broken.write_bytes(b"broken")
    report = build(tmp_path / "stages", tmp_path / "report", [])
    assert any(str(broken) in problem for problem in report.problems)
    assert list((tmp_path / "report" / "plots").glob("accuracy-against-sparsity*"))


def test_without_matplotlib_there_are_tables(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report = build(made / "stages", tmp_path / "report", [])
    assert report.left_out == [
        'the plots need a package that is not installed: pip install "advprune[plots]"'
    ]
    assert len(json.loads((tmp_path / "report" / "leaderboard.json").read_text())["rows"]) == 7
