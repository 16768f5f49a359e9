"""The stage ``quantized`` in a whole job: what it adds, what it leaves alone, and mistakes in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, TINY
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

import prune  # noqa: F401 - registers the schemas
from advprune.config.options import load
from advprune.errors import UserError
from advprune.models.small_cnn import small_cnn
from advprune.pipeline.plan import plan_pruned
from advprune.quantizers import int8, onnx_graph
from advprune.quantizers.calibrate import calibrate
from advprune.quantizers.prepare import quantize
from advprune.report.table.footnotes import notes
from advprune.stages import quantized

OTHER = tuple(
    word for word in TINY if not word.startswith("attack.")
)  # for an attack without steps


def test_a_pruned_network_in_8_bits(job: Any) -> None:
    plain = job(*TINY, "pruner=magnitude", "ratio=0.9")["row"]
    row = job(
        *TINY, "pruner=magnitude", "ratio=0.9", "quantizer=ptq_static", "quantizer.images=100"
    )["row"]
    assert (row["made"], row["found"]) == (
        2,
        4,
    )  # quantized and evaluated; the rest is what it was without
    assert row["sparsity"] == plain["sparsity"]
    folder = Path(row["files"]["quantized"])
    masks = load_file(Path(plain["files"]["finetuned"]) / "masks.safetensors")
    whole, fake = load_file(folder / "int8.safetensors"), load_file(folder / "model.safetensors")
    for name, mask in masks.items():
        assert whole[name].dtype == torch.int8
        assert not whole[name][~mask].any()
        assert not fake[name][~mask].any()
    assert row["zeros"] == plain["zeros"]
    assert row["int8_bytes"] == (folder / "int8.safetensors").stat().st_size < row["float_bytes"]
    assert abs(row["clean_acc"] - plain["clean_acc"]) < 0.05
    through = job(
        *OTHER,
        "pruner=magnitude",
        "ratio=0.9",
        "quantizer=ptq_static",
        "quantizer.images=100",
        "attack=pgd_float_twin",
    )["row"]
    assert through["made"] == 2
    assert through["attack"] == "pgd_float_twin"


def test_what_8_bits_cost_beside_the_dense_parent(job: Any) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra quant")
    row = job(*TINY, "pruner=magnitude", "ratio=0.9", "quantizer=ptq_static", "sizes=true")["row"]
    sizes = row["sizes"]
    assert list(sizes) == ["dense", "final", "int8"]
    assert sizes["int8"]["bytes"]["dense"] == row["int8_bytes"] < sizes["final"]["bytes"]["dense"]
    weights = load_file(Path(row["files"]["quantized"]) / "model.safetensors")
    assert sizes["final"]["nonzeros"]["conv1.weight"] == int(
        weights["conv1.weight"].count_nonzero()
    )
    for of in sizes.values():
        for batch in (1, 128):
            assert of[f"images_per_second_{batch}"] == pytest.approx(batch / of[f"seconds_{batch}"])
    said = next(note for note in notes([row | {"seeds": 1}]) if "in int8" in note)
    assert f"in int8 {row['int8_bytes'] / 1e3:.0f} kB, batch 1 " in said


@pytest.mark.parametrize("quantizer", ["ptq_static", "ptq_dynamic"])
def test_a_network_in_8_bits_is_exported(job: Any, quantizer: str) -> None:
    pytest.importorskip("onnx", reason="needs the extra quant")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra quant")
    words = (
        *TINY,
        "pruner=magnitude",
        "ratio=0.9",
        f"quantizer={quantizer}",
        "quantizer.images=100",
    )
    row = job(*words, "export=onnx")["row"]
    session = onnxruntime.InferenceSession(row["exported"], providers=["CPUExecutionProvider"])
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        final = plan_pruned(load(compose("prune", list(words)))).final
    net = quantized.load(final, Path(row["files"]["quantized"]), runs="int8")
    x = torch.rand(5, 1, 8, 8)
    alone = torch.cat(
        [torch.from_numpy(session.run(None, {"x": image[None].numpy()})[0]) for image in x]
    )
    assert torch.equal(alone, torch.cat([net(image[None]) for image in x]))
    row = job(*words, "export=safetensors")["row"]
    kept = load_file(row["exported"])
    assert kept["conv1.weight"].dtype == torch.int8
    assert row["made"] == 0


def test_a_file_that_answers_otherwise_is_not_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="needs the extra quant")
    pytest.importorskip("onnxruntime", reason="needs the extra quant")
    torch.manual_seed(0)
    net = small_cnn(
        num_classes=10, in_channels=1, image_size=8, mean=[0.3], std=[0.4], widths=[4, 4, 4]
    )
    x = torch.rand(8, 1, 8, 8)
    right, wrong = quantize(net), quantize(net)
    calibrate(right, [x])
    calibrate(wrong, [x / 16])  # its ranges are too small
    int8.onnx(right, tmp_path / "model.onnx", shape=(1, 8, 8))
    monkeypatch.setattr(int8, "serialize", lambda _: onnx_graph.serialize(wrong))
    with pytest.raises(UserError, match=r"model\.onnx gives other logits in onnxruntime"):
        int8.onnx(right, tmp_path / "model.onnx", shape=(1, 8, 8))


def test_training_in_8_bits_moves_weights_and_keeps_zeros(job: Any) -> None:
    words = (*TINY, "pruner=magnitude", "ratio=0.9")
    still, trained = (
        load_file(
            Path(job(*words, "quantizer=qat", f"quantizer.epochs={n}")["row"]["files"]["quantized"])
            / "model.safetensors"
        )
        for n in (0, 1)
    )
    assert still.keys() == trained.keys()
    weights = [name for name in still if still[name].dim() > 1]
    for name in weights:
        assert torch.equal(still[name] == 0, trained[name] == 0)
        assert not torch.equal(still[name], trained[name])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("quantizer=ptq_static", "quantizer.runs=int4"),
            "runs=int4 is not possible: it must be one of fake_q",
        ),
        (("quantizer=ptq_static", "quantizer.images=0"), "images=0 is not possible"),
        (
            ("quantizer=ptq_static", "quantizer.levels=300"),
            "levels=300 is not possible: it must be at least 1",
        ),
        (("quantizer.runs=int8",), "says how to quantize, but nothing is"),
    ],
)
def test_mistakes_are_one_sentence(job: Any, words: tuple[str, ...], sentence: str) -> None:
    failed = job(*TINY, *words)["failed"]
    assert sentence in failed
    assert "\n" not in failed


def test_an_attack_with_its_own_set_is_not_held_to_the_ball(job: Any) -> None:
    row = job(*OTHER, "pruner=magnitude", "ratio=0.5", "attack=translation", "attack.pixels=2")[
        "row"
    ]
    assert (row["eps"], row["norm"]) == (None, None)
    assert row["perturbation"] == "up to 2 px, worst of 1"
    assert row["robust_acc"] <= row["clean_acc"]


def test_mean_corruption_accuracy(job: Any) -> None:
    import pandas as pd

    row = job(
        *OTHER,
        "pruner=magnitude",
        "ratio=0.5",
        "attack=corruptions",
        "attack.names=[fog,contrast]",
        "attack.severities=[1,5]",
    )["row"]
    records = pd.read_parquet(Path(row["files"]["evaluated"]) / "records.parquet")
    kinds = ["fog.1", "fog.5", "contrast.1", "contrast.5"]
    assert row["alone"] == pytest.approx({kind: records[f"ok.{kind}"].mean() for kind in kinds})
    assert row["mean_acc"] == pytest.approx(
        records[[f"ok.{kind}" for kind in kinds]].to_numpy().mean()
    )
    every = records["clean_ok"] & records[[f"ok.{kind}" for kind in kinds]].all(axis=1)
    assert row["robust_acc"] == pytest.approx(every.mean())
