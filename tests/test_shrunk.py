"""The main job where networks get smaller: made, counted, fine-tuned, attacked, read back, exported."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file

from advprune.errors import UserError
from advprune.models.small_cnn import small_cnn
from advprune.surgery import cost, export, measure, structure

SMALL = {
    "num_classes": 10,
    "in_channels": 1,
    "image_size": 8,
    "mean": [0.0],
    "std": [1.0],
    "widths": [4, 8, 8],
}


@pytest.mark.parametrize(
    "words",
    [
        ["pruner=filters", "pruner/criterion=taylor"],
        ["pruner=filters", "pruner.recovery=rewind", "training.epochs=6", "pruner.budget=macs"],
        ["pruner=filters", "pruner.recovery=scratch", "pruner.scope=global"],
        ["pruner=hydra_filters"],
        [
            "pruner=filters",
            "pruner.schedule=linear",
            "pruner.rounds=2",
            "pruner.epochs_per_round=1",
        ],
    ],
)
def test_a_smaller_network_is_made_and_counted(job: Any, words: list[str]) -> None:
    record = job(*TINY, "model.widths=[8,16,4]", *words, "ratio=0.4")
    assert "failed" not in record, record.get("failed")
    row = record["row"]
    folder = Path(row["files"]["finetuned"])
    weights = load_file(folder / "model.safetensors")
    dense = load_file(Path(row["files"]["dense"]) / "model.safetensors")
    kept, whole = (
        sum(tensor.numel() for tensor in state.values()) for state in (weights, dense)
    )  # no BatchNorm here
    assert row["params"] == kept
    assert row["dense_params"] == whole
    assert row["sparsity"] == pytest.approx(1 - kept / whole)
    assert row["macs"] < row["dense_macs"]
    gone = 1 - row["macs"] / row["dense_macs"] if "pruner.budget=macs" in words else row["sparsity"]
    assert 0.4 <= gone < 0.48
    found = structure.load(folder / structure.FILE)
    assert found.shapes == {name: list(tensor.shape) for name, tensor in weights.items()}
    for site, indices in found.filters.items():
        assert weights[f"{site}.weight"].shape[0] == len(indices)


@pytest.mark.slow
@pytest.mark.parametrize("net", ["mobilenet_v2", "resnet50"])
@pytest.mark.parametrize(("unit", "ratio", "most"), [("filters", 0.2, 0.25), ("blocks", 0.1, 0.25)])
def test_the_large_architectures_go_through_the_whole_job(
    job: Any, net: str, unit: str, ratio: float, most: float
) -> None:
    short = (
        "training.epochs=1",
        "finetune.epochs=1",
        "training.batch_size=96",
        "attack.steps=1",
        "attack.images=32",
    )
    words = [
        f"model={net}",
        "model.width=0.125",
        f"pruner={unit}",
        "pruner.budget=macs",
        f"ratio={ratio}",
    ]
    record = job(*TINY[1:], *short, "objective.attack.steps=1", *words)
    assert "failed" not in record, record.get("failed")
    row = record["row"]
    assert (
        ratio <= 1 - row["macs"] / row["dense_macs"] < most
    )  # of few blocks, one may be a quarter
    found = structure.load(Path(row["files"]["finetuned"]) / structure.FILE)
    assert bool(found.filters) == (unit == "filters")
    assert bool(found.blocks) == (unit == "blocks")
    weights = load_file(Path(row["files"]["finetuned"]) / "model.safetensors")
    assert found.shapes == {name: list(tensor.shape) for name, tensor in weights.items()}
    again = job(*TINY[1:], *short, "objective.attack.steps=1", *words, "attack.start=none")["row"]
    assert (again["made"], again["clean_acc"]) == (2, row["clean_acc"])  # read back from its files


def test_blocks_go_and_the_checkpoint_is_attacked_again(job: Any, tmp_path: Path) -> None:
    net = ["model=resnet20", "model.width=4"]
    row = job(*TINY[1:], *net, "pruner=blocks", "pruner.budget=blocks", "ratio=0.33")["row"]
    folder = Path(row["files"]["finetuned"])
    assert len(structure.load(folder / structure.FILE).blocks) == 3
    again = job(
        *TINY[1:], *net, f"dense={folder}/model.safetensors", "pruner=filters", "ratio=0.1"
    )["row"]
    assert again["dense_clean_acc"] == row["clean_acc"]
    assert again["dense_params"] == row["params"] > again["params"]
    both = structure.load(Path(again["files"]["finetuned"]) / structure.FILE)
    assert len(both.blocks) == 3
    assert both.filters
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "model.safetensors", alone)
    words = [*TINY[1:], *net, f"dense={alone}/model.safetensors", "pruner=filters", "ratio=0.1"]
    failed = job(*words, store=tmp_path / "other")
    assert "structure.json" in failed["failed"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pruner=blocks", "ratio=0.3"], "pruner=filters"),
        (["pruner=filters", "ratio=0.99"], "the largest is 0."),
        (
            ["pruner=filters", "pruner.budget=blocks", "ratio=0.3"],
            "pruner.budget=blocks is not possible",
        ),
        (["pruner=filters", "pruner.scope=erk", "ratio=0.3"], "choose layer or global"),
        (["pruner=filters", "pruner.floor=0", "ratio=0.3"], "pruner.floor=0"),
        (["pruner=filters", "export=tflite", "ratio=0.3"], "export=tflite"),
    ],
)
def test_mistakes_cost_no_training(
    job: Any, tmp_path: Path, words: list[str], sentence: str
) -> None:
    record = job(*TINY, *words)
    assert sentence in record["failed"]
    assert not (tmp_path / "stages" / "dense").exists()


def test_sizes_and_safetensors_are_delivered(job: Any) -> None:
    row = job(*TINY, "pruner=magnitude", "ratio=0.9", "sizes=true", "export=safetensors")["row"]
    weights = load_file(row["exported"])
    nonzero = sum(int(torch.count_nonzero(t)) for n, t in weights.items() if n.endswith("weight"))
    assert sum(row["sizes"]["final"]["nonzeros"].values()) == nonzero
    assert row["sizes"]["final"]["bytes"]["sparse"] < row["sizes"]["dense"]["bytes"]["sparse"] / 4
    assert row["sizes"]["final"]["bytes"]["dense"] == row["sizes"]["dense"]["bytes"]["dense"]
    assert row["sizes"]["final"]["images_per_second_128"] > 0


def test_sizes_in_closed_form() -> None:
    net = small_cnn(**SMALL)
    with torch.no_grad():
        net.conv1.weight.zero_()
        net.conv1.weight[0, 0, 0, 0] = 1
    assert cost.nonzeros(net)["conv1.weight"] == 1
    expected = 1 * 64 + 4 * 8 * 9 * 16 + 8 * 8 * 9 * 16 + 8 * 16 * 10
    assert cost.effective_macs(net, (1, 8, 8)) == expected  # the second convolution has stride 2
    assert measure.file_bytes({"a": torch.tensor([0.0] * 15 + [1.0])}) == {
        "dense": 64,
        "sparse": 2 + 4,
    }


def test_onnx_is_checked(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    net = small_cnn(**SMALL)
    net.train()
    path = export.onnx(net, tmp_path / "model.onnx", shape=(1, 8, 8))
    assert path.exists()
    assert net.training


def test_onnx_without_its_packages_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"advprune\[onnx\]"):
        export.onnx(small_cnn(**SMALL), tmp_path / "model.onnx", shape=(1, 8, 8))
