"""A network that is given away: what is written is what is read, and damage is told."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY

import advprune
from advprune.datasets.digits import Digits
from advprune.errors import UserError
from advprune.modules.weights_io import load_weights

CELL = re.compile(r"\| clean accuracy, % \| ([0-9.]+) \[")
ZOO = advprune.zoo_names()


def images(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def exported(job: Any, tmp_path: Path, *words: str) -> tuple[Path, dict[str, Any]]:
    told = job(*words, "export=hub", *TINY)
    assert "failed" not in told, told["failed"]
    row = told["row"]
    return Path(row["exported"]), row


@pytest.mark.parametrize("words", [("pruner=magnitude",), ("pruner=filters",)])
def test_a_folder_gives_the_network_back(job: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    folder, row = exported(job, tmp_path, *words, "ratio=0.25")
    net = advprune.load(folder)
    assert not net.training
    weights = load_weights(Path(row["files"]["finetuned"]) / "model.safetensors")
    assert net.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert torch.isfinite(net(images())).all()
    nonzero = sum(int(tensor.count_nonzero()) for tensor in net.parameters())
    card = (folder / "README.md").read_text()
    assert f"not zero | {nonzero}" in card
    assert f"{100 * row['clean_acc']:.1f} [" in card
    assert row["files"]["finetuned"].rpartition("/")[2] in card
    assert str(tmp_path) not in card
    assert (folder / "structure.json").exists() == (words == ("pruner=filters",))


def test_another_network_leaves_no_structure_of_the_one_before(job: Any, tmp_path: Path) -> None:
    exported(job, tmp_path, "pruner=filters", "ratio=0.25")
    folder, _ = exported(job, tmp_path, "pruner=magnitude", "ratio=0.5")
    advprune.load(folder)
    assert not (folder / "structure.json").exists()


def zoo_copy(tmp_path: Path, name: str = "digits/small_cnn/twin_rep_filters-0.9") -> Path:
    source = Path(advprune.__file__).parent / "zoo" / name
    return Path(shutil.copytree(source, tmp_path / "copy"))


def flip_a_bit(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def build_another(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["network"]["_target_"] = "os.system"
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (flip_a_bit, r"model\.safetensors is damaged \(its SHA-256 .*\): get the folder again"),
        (lambda folder: (folder / "structure.json").unlink(), r"structure\.json is missing"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json: give a folder"),
        (
            lambda folder: (folder / "config.json").write_text("{}"),
            r"config\.json is not one that export=hub writes",
        ),
        (build_another, r"holds a network of os\.system, and only those of advprune\.models are"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, damage: Any, sentence: str) -> None:
    folder = zoo_copy(tmp_path)
    advprune.load(folder)
    damage(folder)
    with pytest.raises(UserError, match=sentence):
        advprune.load(folder)


def test_a_name_that_the_zoo_lacks_is_told_with_those_it_has() -> None:
    with pytest.raises(UserError, match=r"neither a folder nor .* digits/small_cnn/hydra-0\.99"):
        advprune.load("digits/small_cnn/hydra-0.5")


def test_eight_bits_are_no_hub_folder(job: Any) -> None:
    failed = job("quantizer=ptq_static", "export=hub", *TINY)["failed"]
    assert "export=hub writes a network in floating point" in failed


@pytest.mark.parametrize("name", ZOO)
def test_a_network_of_the_zoo_is_what_its_card_says(name: str) -> None:
    """As many of the 359 test images are right as the card's share has; zeros are its ratio."""
    _, test = Digits(name="digits").load()
    net = advprune.load(name)
    with torch.no_grad():
        right = int((net(test.images.float() / 255).argmax(1) == test.labels).sum())
    card = (Path(advprune.__file__).parent / "zoo" / name / "README.md").read_text()
    (share,) = CELL.findall(card)
    assert f"{100 * right / 359:.1f}" == share
    ratio = name.rpartition("-")[2]
    if name.partition("hydra-")[2] or name.partition("harp-")[2]:
        weights = [w for w in net.parameters() if w.dim() > 1]
        kept = sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)
        assert kept == pytest.approx(1 - float(ratio), abs=1e-3)


def test_the_zoo_is_small_enough_to_travel_with_the_package() -> None:
    zoo = Path(advprune.__file__).parent / "zoo"
    assert len(ZOO) >= 4
    assert "digits/small_cnn/dense" in ZOO
    assert sum(path.stat().st_size for path in zoo.rglob("*") if path.is_file()) < 1e6
