"""What separate parts promise, asked for at once: compression of filters, 8 bits of a smaller network, its transfer."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import TINY, run_job

from advprune.report.data.intervals import pool
from advprune.report.table.columns import COLUMNS
from advprune.report.table.footnotes import notes

FILTERS = (*TINY, "model.widths=[8,16,4]", "pruner=filters", "compression=2")
WITHOUT_STEPS = tuple(word for word in FILTERS if not word.startswith("attack.steps"))
QUANT = ("quantizer=ptq_static", "quantizer.images=64")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    """One store for this file: what one test made, the next one finds."""
    return tmp_path_factory.mktemp("together")


def row(folder: Path, *words: str) -> dict[str, Any]:
    done = run_job(folder, "prune", words, folder / "stages")
    assert "failed" not in done, done["failed"]
    return done["row"]


def test_compression_of_filters_is_parameters_over_parameters(folder: Path) -> None:
    found = row(folder, *FILTERS)
    assert found["ratio"] == 0.5
    assert found["compression"] == found["dense_params"] / found["params"]
    assert 2 <= found["compression"] < 2.3
    refused = run_job(folder, "prune", (*FILTERS, "pruner.budget=macs"), folder / "stages")[
        "failed"
    ]
    assert "compression counts parameters, and pruner.budget=macs does not" in refused
    refused = run_job(folder, "prune", (*FILTERS, "pruner.biases=true"), folder / "stages")[
        "failed"
    ]
    assert "pruner.biases is for single weights, and this pruner removes filters" in refused


def test_a_smaller_network_in_8_bits_keeps_its_counts(folder: Path) -> None:
    plain, found = row(folder, *FILTERS), row(folder, *FILTERS, *QUANT)
    assert (found["made"], found["found"]) == (2, 4)
    same = ("ratio", "compression", "params", "dense_params", "macs", "dense_macs", "sparsity")
    assert {name: found[name] for name in same} == {name: plain[name] for name in same}
    assert abs(found["clean_acc"] - plain["clean_acc"]) < 0.06


def test_its_own_examples_fool_a_quantized_network_as_a_white_box_does(folder: Path) -> None:
    white = row(folder, *FILTERS, *QUANT, "attack.steps=50")
    own = row(folder, *WITHOUT_STEPS, *QUANT, "attack=transfer", "source=self")
    assert own["target_acc"] == own["both_correct"]  # source and target are one network
    attacked, judged = (
        pd.read_parquet(Path(r["files"]["evaluated"]) / "records.parquet") for r in (white, own)
    )
    assert attacked["adv_pred"].tolist() == judged["adv_pred"].tolist()


ROW: dict[str, Any] = {
    "model": "m",
    "pruner": "p",
    "ratio": 0.5,
    "zeros": 0.5,
    "attack": "pgd",
    "eps": 8 / 255,
    "norm": "linf",
    "clean_acc": 0.9,
    "clean_acc_interval": [0.8, 1.0],
    "robust_acc": 0.5,
    "robust_acc_interval": [0.4, 0.6],
    "dense_clean_acc": 0.9,
    "dense_clean_acc_interval": [0.8, 1.0],
    "dense_robust_acc": 0.5,
    "dense_robust_acc_interval": [0.4, 0.6],
    "images": 10,
    "of": 10,
    "seeds": 1,
    "seed": 0,
    "seconds": 1.0,
    "checkpoint": "best",
    "doubts": [],
    "quantizer": "none",
}
MOVED = {
    "source": "dense",
    "target_acc": 0.7,
    "target_acc_interval": [0.6, 0.8],
    "transfer_rate": None,
}
BASE = [
    "model",
    "pruner",
    "ratio",
    "sparsity\nparams\nMACs",
    "attack",
    "dense clean",
    "dense robust",
    "clean",
    "robust",
    "n",
]


def headings(*rows: dict[str, Any]) -> list[str]:
    return [column.heading for column in COLUMNS if column.shown(list(rows))]


def test_columns_are_those_that_the_rows_can_fill() -> None:
    assert headings(ROW) == [*BASE, "seconds"]
    assert headings(ROW | {"pruner": None, "ratio": None}) == [
        "model",
        "attack",
        "clean",
        "robust",
        "n",
        "seconds",
    ]
    proved = {
        "robust_acc": None,
        "dense_robust_acc": None,
        "certified_acc": 0.3,
        "certified_acc_interval": [0.2, 0.4],
    }
    assert "robust" not in headings(ROW | proved)
    assert headings(ROW, ROW | proved)[-5:] == ["clean", "robust", "certified", "n", "seconds"]
    assert headings(ROW | MOVED)[4:] == [
        "attack",
        "source",
        "clean",
        "target right",
        "n",
        "seconds",
    ]
    assert "params, MACs" in headings(
        ROW | {"params": 1, "macs": 1, "dense_params": 2, "dense_macs": 4}, ROW
    )
    assert "quantizer" in headings(ROW, ROW | {"quantizer": "qat"})


def test_cells() -> None:
    cells = {column.heading: column.cell for column in COLUMNS}
    smaller = ROW | {"params": 1, "macs": 1, "dense_params": 2, "dense_macs": 4}
    assert (cells["sparsity\nparams\nMACs"](ROW), cells["params, MACs"](smaller)) == (
        "0.5000",
        "50.00, 25.00 %",
    )
    assert cells["attack"](ROW) == "pgd\nlinf 8/255"
    assert (
        cells["attack"](ROW | {"attack": "rotation", "eps": None, "perturbation": "30°"})
        == "rotation\n(30°)"
    )
    assert cells["robust"](ROW) == "50.0\n[40.0, 60.0]"
    failed = {
        column.heading: column.failed({"names": {"model": "m"}, "ratio": 0.5, "seed": 3})
        for column in COLUMNS
    }
    assert (failed["model"], failed["ratio"], failed["clean"], failed["n"]) == (
        "m",
        "0.5",
        "failed",
        "seed 3",
    )


def test_notes_speak_of_what_is_there() -> None:
    assert any("publish numbers made with attack=autoattack" in note for note in notes([ROW]))
    own = ROW | {
        "perturbation": "30°",
        "mean_acc": 0.8,
        "dense_mean_acc": 0.9,
        "alone": {"a": 0.7, "b": 0.9},
    }
    said = notes([own])
    assert not any("autoattack" in note for note in said)
    assert any("mean accuracy 80.0 over 2 kinds" in note for note in said)
    assert not any("target right" in note for note in said)


def test_a_share_that_one_seed_has_keeps_its_own_interval() -> None:
    one = MOVED | {"transfer_rate": 0.25, "transfer_rate_interval": [0.1, 0.5]}
    pooled = pool([ROW | MOVED, ROW | one | {"seed": 1}])
    assert [(row["transfer_rate"], row["transfer_rate_interval"]) for row in pooled] == [
        (0.25, [0.1, 0.5])
    ]
