"""Weights from anywhere: understood where they are sound, and refused, without running anything, where they are not."""

import io
import logging
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.models import foreign
from advprune.models.cifar_resnet import CifarResNet
from advprune.models.resnet import ResNet
from advprune.models.small_cnn import small_cnn
from advprune.models.wide_resnet import WideResNet

CIFAR = {"in_channels": 3, "image_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}


def network(seed: int, classes: int = 10, depth: int = 8, width: int = 4) -> CifarResNet:
    torch.manual_seed(seed)
    return CifarResNet(num_classes=classes, depth=depth, width=width, **CIFAR)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


WRAPPINGS = {
    "plain": lambda state: state,
    "dataparallel": lambda state: {"state_dict": prefixed("module.", state), "best_prec1": 91.7},
    "net": lambda state: {"net": state, "acc": 91.7, "epoch": 3},
    "model": lambda state: {
        "model": state,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    },
    "model_state_dict": lambda state: {"model_state_dict": state},
    "lightning": lambda state: {
        "state_dict": prefixed("model.", state),
        "callbacks": {},
        "loops": {},
    },
    "compiled": lambda state: {"state_dict": prefixed("net._orig_mod.", state)},
    "wrapped twice": lambda state: {
        "model": {"state_dict": prefixed("module.model.module.", state)}
    },
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_nesting_and_prefixes_are_understood(tmp_path, wrap, zipped):
    state = network(0).state_dict()
    torch.save(wrap(dict(state)), tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
    model = network(1)
    foreign.load(model, tmp_path / "weights.pth")
    assert equal(model.state_dict(), state)


def test_safetensors_and_paths_as_strings_are_understood(tmp_path):
    state = network(0).state_dict()
    save_file(prefixed("module.", state), tmp_path / "weights.safetensors")
    assert equal(foreign.read(str(tmp_path / "weights.safetensors")), state)


def test_a_prefix_that_not_all_names_share_is_kept(tmp_path):
    torch.save({"net.weight": torch.ones(1), "head.weight": torch.ones(1)}, tmp_path / "weights.pt")
    assert set(foreign.read(tmp_path / "weights.pt")) == {"net.weight", "head.weight"}


def test_the_batch_counter_may_be_absent_and_nothing_else(tmp_path):
    state = network(0).state_dict()
    old = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    assert len(old) == len(state) - 7
    torch.save(old, tmp_path / "old.pth")
    model = network(1)
    foreign.load(model, tmp_path / "old.pth")
    assert equal({key: model.state_dict()[key] for key in old}, old)

    del old["layer1.0.bn1.running_var"]
    torch.save(old, tmp_path / "old.pth")
    with pytest.raises(UserError, match=r"missing: layer1\.0\.bn1\.running_var\)"):
        foreign.load(model, tmp_path / "old.pth")


def test_the_unused_block_of_published_wide_resnets_is_ignored_and_said(tmp_path, caplog):
    torch.manual_seed(0)
    model = WideResNet(num_classes=10, depth=10, widen=2, **CIFAR)
    published = {**model.state_dict(), "sub_block1.layer.0.conv1.weight": torch.ones(32, 16, 3, 3)}
    torch.save({"state_dict": prefixed("module.", published)}, tmp_path / "checkpoint.pth.tar")
    with caplog.at_level(logging.INFO):
        foreign.load(model, tmp_path / "checkpoint.pth.tar")
    assert "sub_block1.layer.0.conv1.weight" in caplog.text


def test_scores_of_hydra_are_refused(tmp_path):
    state = network(0).state_dict()
    torch.save({**state, "conv1.popup_scores": state["conv1.weight"]}, tmp_path / "subnet.pt")
    with pytest.raises(
        UserError, match=r"\(conv1\.popup_scores\).*layout=hydra or pretrained fits it"
    ):
        foreign.load(network(1), tmp_path / "subnet.pt")


def refused(model: nn.Module, path: Path) -> str:
    """The message ``load`` refuses the file with; the model must be as it was."""
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(UserError) as error:
        foreign.load(model, path)
    assert equal(model.state_dict(), before)
    assert path.name in str(error.value)
    return str(error.value)


def test_another_class_count_is_named(tmp_path):
    torch.save(network(0, classes=100).state_dict(), tmp_path / "w.pt")
    message = refused(network(1), tmp_path / "w.pt")
    assert "linear.weight is (100, 16) and should be (10, 16)" in message
    assert "the file has 100 classes, the dataset 10" in message


def test_another_channel_count_and_another_image_size_are_named(tmp_path):
    def small(channels: int, size: int) -> nn.Module:
        constants = {"mean": [0.5] * channels, "std": [0.25] * channels}
        return small_cnn(
            num_classes=10, in_channels=channels, image_size=size, widths=[2, 2, 2], **constants
        )

    torch.save(small(1, 8).state_dict(), tmp_path / "digits.pt")
    assert "for 1 channels, the dataset has 3" in refused(small(3, 8), tmp_path / "digits.pt")
    assert "for images of another size" in refused(small(1, 28), tmp_path / "digits.pt")


@pytest.mark.parametrize("other", [{"depth": 14}, {"width": 8}])
def test_another_depth_or_width_is_named_with_the_cure(tmp_path, other):
    torch.save(network(0, **other).state_dict(), tmp_path / "w.pt")
    message = refused(network(1), tmp_path / "w.pt")
    assert "does not fit this CifarResNet" in message
    assert "it fits model=resnet20 model." in message
    assert (
        "layer1.1.conv1.weight" if "depth" in other else "shapes: conv1.weight is (8, 3, 3, 3)"
    ) in message


def test_another_architecture_lists_five_names_each_and_counts_the_rest(tmp_path):
    theirs = ResNet(num_classes=10, width=2, **CIFAR).state_dict()
    torch.save(theirs, tmp_path / "w.pt")
    model = network(1)
    ours = model.state_dict()
    unexpected = [key for key in theirs if key not in ours]
    message = refused(model, tmp_path / "w.pt")
    assert f"unexpected: {', '.join(unexpected[:5])} and {len(unexpected) - 5} more" in message
    assert unexpected[5] not in message
    assert "missing" not in message
    assert "shapes: conv1.weight is (2, 3, 3, 3) and should be (4, 3, 3, 3)" in message


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    state = network(0).state_dict()
    state["linear.bias"][3] = float("nan")
    torch.save(state, tmp_path / "w.pt")
    assert "not finite (linear.bias)" in refused(network(1), tmp_path / "w.pt")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "run")


def test_a_malicious_file_is_refused_and_not_run(tmp_path):
    sprung = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.read_text() == "run"
    sprung.unlink()

    payload = {"state_dict": network(0).state_dict(), "extra": Trap(sprung)}
    torch.save(payload, tmp_path / "zip.pt")
    torch.save(payload, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    (tmp_path / "raw.safetensors").write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    for name in ("zip.pt", "legacy.pt", "raw.pt", "raw.safetensors"):
        message = refused(network(1), tmp_path / name)
        assert "nothing in it was run" in message
        assert "safetensors.torch.save_file" in message
        assert "weights_only" not in message
    assert not sprung.exists()


def test_a_whole_pickled_model_is_refused_with_the_class_it_asks_for(tmp_path):
    torch.save(network(0), tmp_path / "model.pt")
    assert "advprune.models.cifar_resnet.CifarResNet" in refused(network(1), tmp_path / "model.pt")


def test_every_truncation_is_refused_in_a_sentence(tmp_path):
    state = dict(network(0).state_dict())
    files = {"zip.pt": io.BytesIO(), "legacy.pt": io.BytesIO()}
    torch.save({"state_dict": state}, files["zip.pt"])
    torch.save({"state_dict": state}, files["legacy.pt"], _use_new_zipfile_serialization=False)
    blobs = {name: file.getvalue() for name, file in files.items()}
    save_file(state, tmp_path / "whole.safetensors")
    blobs["cut.safetensors"] = (tmp_path / "whole.safetensors").read_bytes()
    for name, blob in blobs.items():
        cuts = sorted({0, 1, 8, 9, 100, 1000, len(blob) // 2, len(blob) - 100, len(blob) - 1})
        for cut in cuts:
            (tmp_path / name).write_bytes(blob[:cut])
            with pytest.raises(UserError, match="could not be read as weights"):
                foreign.read(tmp_path / name)
        (tmp_path / name).write_bytes(blob)
        assert equal(foreign.read(tmp_path / name), state)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list and no state_dict"),
        ({}, "holds nothing"),
        (
            {"epoch": 3, "lr": 0.1},
            "holds epoch, lr and no state_dict, neither by itself nor under state_dict",
        ),
    ],
)
def test_a_file_without_one_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match=message):
        foreign.read(tmp_path / "w.pt")


def test_a_file_that_contains_itself_ends(tmp_path):
    endless: dict = {"epoch": 3}
    endless["state_dict"] = endless
    torch.save(endless, tmp_path / "w.pt")
    with pytest.raises(UserError, match="no state_dict"):
        foreign.read(tmp_path / "w.pt")


@pytest.mark.parametrize("path", ["absent.pt", "."])
def test_a_missing_file_and_a_folder_are_refused(tmp_path, path):
    with pytest.raises(UserError, match="there is no file"):
        foreign.read(tmp_path / path)
