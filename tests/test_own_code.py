"""A network and a data set of the user's own, by ``_target_`` alone."""

import sys
from pathlib import Path

import pytest
import torch
from presets import options

from advprune.config.groups import Network
from advprune.config.options import options_of
from advprune.config.overrides import choose_custom
from advprune.config.validate import import_target
from advprune.errors import UserError
from advprune.logits import check
from advprune.threat import Linf

#: An ``ImageData`` of two classes: black and white images.
DATA = """
from dataclasses import dataclass
import torch
from advprune.datasets.base import ImageData
from advprune.datasets.images import Split

@dataclass(kw_only=True, eq=False)
class TwoTones(ImageData):
    tone: int = 200

    def load(self):
        labels = torch.arange(64) % 2
        images = (self.tone * labels).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
        return Split(images, labels), Split(images[:16], labels[:16])
"""
OWN_MODEL = "model._target_=networks.OwnNet"
OWN_DATA = "dataset._target_=tones.TwoTones"
SIZES = ["dataset.num_classes=2", "dataset.channels=1", "dataset.image_size=8"]


def test_a_target_chooses_the_member_custom_whose_options_are_the_targets() -> None:
    assert choose_custom(["-m", OWN_MODEL, "model.width=3", "ratio=0.9"]) == [
        "model=custom",
        "-m",
        f"++{OWN_MODEL}",
        "++model.width=3",
        "ratio=0.9",
    ]


@pytest.mark.parametrize("words", [["model=resnet18", OWN_MODEL], ["ratio=0.9", "model.depth=3"]])
def test_other_words_stay_as_they_are(words: list[str]) -> None:
    assert choose_custom(words) == words


def test_a_network_is_told_what_it_takes_and_no_more() -> None:
    node = {"_target_": "networks.OwnNet", "num_classes": 3, "in_channels": 2, "image_size": 8}
    net = Network({**node, "mean": [0.5], "std": [0.5], "width": 5, "source_id": "x"}).build()
    assert (net[0].in_channels, net[0].out_channels, net[-1].out_features) == (2, 5, 3)


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        ("unfinished.Net", "SyntaxError: expected ':' (unfinished.py, line 1)"),
        ("no_such_module.Net", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("networks.Own", "AttributeError: module 'networks' has no attribute 'Own'"),
        ("Net", "ValueError: Empty module name"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, wrong: str
) -> None:
    (tmp_path / "unfinished.py").write_text("class Net\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as told:
        import_target("model", target)
    assert str(told.value) == (
        f"model._target_={target} cannot be imported ({wrong}): give the dotted path of a class or "
        "function, MODULE.NAME"
    )


def test_a_method_of_a_class_is_a_target() -> None:
    assert import_target("threat", "advprune.threat.Linf.project") is Linf.project


def test_a_job_runs_on_a_network_and_a_data_set_of_ones_own(tmp_path: Path, job) -> None:
    (tmp_path / "tones.py").write_text(DATA)
    sys.path.append(str(tmp_path))
    words = choose_custom([OWN_MODEL, "model.width=3", OWN_DATA, *SIZES, "dataset.tone=255"])
    few = ["training.epochs=2", "search.epochs=1", "finetune.epochs=1", "attack.steps=1"]
    row = job(*words, *few, "select.steps=1", "trainer=cpu", "threat.eps=0.1", "ratio=0.5")["row"]
    assert row["model"] == "OwnNet width=3"
    assert row["dataset"].startswith("TwoTones num_classes=2")
    # 3 of 9 x 3 and 12 x 2 weights are kept exactly by halves
    assert (row["images"], row["sparsity"]) == (16, pytest.approx(0.5, abs=0.02))


def test_a_changed_file_is_another_network(tmp_path: Path) -> None:
    path = tmp_path / "changing.py"
    sys.path.append(str(tmp_path))

    def key() -> object:
        words = choose_custom(["model._target_=changing.Net"])
        return options_of(options("train", *words)).model.node["source_id"]

    path.write_text("class Net: pass")
    before = key()
    path.write_text("class Net: depth = 2")
    assert before != key()


def test_what_the_data_set_must_say_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"dataset\.num_classes is missing: give dataset\.num_cla"):
        options("train", *choose_custom(["dataset._target_=advprune.datasets.digits.Digits"]))


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        ((torch.zeros(2, 3), 1), "returns a tuple"),
        (torch.zeros(2, 4), r"must return logits \(2, 3\)"),
        (torch.full((2, 3), torch.nan), "NaN"),
        (torch.full((2, 3), 1 / 3), "probabilities"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(outputs: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check(outputs, images=2, classes=3)


def test_logits_pass() -> None:
    check(torch.tensor([[0.2, 0.8, 0.1], [1.0, 0.0, 0.0]]), images=2, classes=3)


def test_two_outputs_are_refused_before_anything_is_trained(tmp_path: Path, job) -> None:
    failed = job(*choose_custom(["model._target_=networks.TwoOutputs"]), "trainer=cpu")["failed"]
    assert failed.startswith("the network returns a tuple")
    assert not (tmp_path / "stages").exists()
