"""The authors' presets of pruners that train: their constants, and two steps of each on digits."""

from typing import Any

import pytest
from test_experiments import options

#: A network, images and an attack of no size, in place of the preset's.
SMALL = (
    "dataset=digits",
    "dataset.train_images=64",
    "model=small_cnn",
    "model.widths=[4,4,4]",
    "training.epochs=1",
    "search.epochs=2",
    "finetune.epochs=1",
    "select.steps=1",
    "select.images=32",
    "objective.attack.steps=1",
    "attack=pgd",
    "attack.steps=1",
    "attack.images=32",
    "trainer=cpu",
)
FLYING = ("pruner.epochs=2", "pruner.process.every=1", "pruner.process.every_late=1")
PRESETS = {
    "flying_bird_cifar10_resnet18_authors": FLYING,
    "flying_bird_plus_cifar10_resnet18_authors": FLYING,
    "harp_cifar10_vgg16_authors": (),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_an_authors_preset_takes_two_steps(preset: str, job: Any) -> None:
    out = job(f"experiment={preset}", *SMALL, *PRESETS[preset], "ratio=0.9")
    assert out.get("failed") is None
    assert out["row"]["sparsity"] == pytest.approx(0.9, abs=0.005)


def test_flying_bird_updates_every_900_steps_and_every_1200_in_the_second_half() -> None:
    node = options("flying_bird_cifar10_resnet18_authors")
    steps = -(-45_000 // node["training"]["batch_size"])
    process = node["pruner"]["process"]
    assert [round(process[name] * steps) for name in ("every", "every_late")] == [900, 1200]
    assert (process["first"], process["last"], process["until"]) == (0.5, 0.005, 1.0)
    assert (node["pruner"]["scope"], node["pruner"]["epochs"]) == ("igq", 200)
    assert node["objective"]["attack_mode"] == "train"
    assert (node["training"]["schedule"], node["training"]["weight_decay"]) == ("step_half", 5e-4)


def test_flying_bird_plus_steers_from_epoch_100() -> None:
    node = options("flying_bird_plus_cifar10_resnet18_authors")
    assert node["pruner"]["process"]["steer"]["after"] * node["pruner"]["epochs"] == 100


def test_harp_is_trained_as_its_authors_do() -> None:
    node = options("harp_cifar10_vgg16_authors")
    process = node["pruner"]["process"]
    assert (process["gamma"], process["density"], process["rate_decay"]) == (0.01, 0.1, 1)
    phases = [node[phase] for phase in ("training", "search", "finetune")]
    assert [phase["epochs"] for phase in phases] == [100, 20, 100]
    assert [phase["learning_rate"] for phase in phases] == [0.1, 0.1, 0.01]
    assert {phase["schedule"] for phase in phases} == {"cosine_authors"}
    assert {float(phase["weight_decay"]) for phase in phases} == {5e-4}
    step = node["objective"]["attack"]["rel_step"] * node["threat"]["eps"]
    assert step == pytest.approx(0.0078, abs=1e-12)
