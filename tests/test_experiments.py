"""Every preset composes with each command and passes the door; those of the authors have the authors' constants."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

import prune  # noqa: F401 - registers the schemas
from advprune.stages import door
from advprune.stages.options import GROUPS, resolve
from advprune.stages.plan import of_phase, plan_pruned
from advprune.units import fraction

ROOT = Path(__file__).resolve().parents[1]
PRESETS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("hydra_*.yaml"))


@cache
def options(preset: str, *more: str, command: str = "prune") -> dict[str, Any]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return resolve(compose(command, [f"experiment={preset}", *more]))


def test_the_presets_of_the_paper_are_all_there() -> None:
    both = ("", "_authors")
    images = [f"hydra_{d}_{m}_{o}{a}" for d in ("cifar10", "svhn") for m in ("vgg16", "wrn_28_4")
              for o in ("trades", "smoothing") for a in both]  # fmt: skip
    proofs = [f"hydra_{d}_cnn_{m}_{o}{a}" for d in ("cifar10", "svhn") for m in ("small", "large")
              for o in ("mixtrain", "crown_ibp") for a in both]  # fmt: skip
    assert set(PRESETS) >= {*images, *proofs, *(f"hydra_imagenet_resnet50_free{a}" for a in both)}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_passes_the_door(preset: str) -> None:
    found = options(preset)
    door.check_numbers(found)
    door.check_signatures(found, GROUPS)


def test_a_preset_is_the_same_for_train_py() -> None:
    one = "hydra_svhn_cnn_small_crown_ibp_authors"
    for group in ("training", "objective", "dataset", "threat", "attack"):
        assert options(one, command="train")[group] == options(one)[group]


@pytest.mark.parametrize(
    ("preset", "option", "value"),
    [
        ("hydra_cifar10_vgg16_trades", "threat.eps", 8 / 255),
        ("hydra_cifar10_vgg16_trades_authors", "threat.eps", 0.031),
        ("hydra_cifar10_vgg16_trades_authors", "training.schedule", "cosine_authors"),
        ("hydra_cifar10_vgg16_trades_authors", "search.schedule", "cosine_authors"),
        ("hydra_cifar10_vgg16_trades_authors", "select.keep", "last"),
        ("hydra_cifar10_vgg16_trades_authors", "attack.steps", 50),
        ("hydra_svhn_wrn_28_4_trades_authors", "dataset.augment.flip", True),
        ("hydra_svhn_wrn_28_4_trades", "dataset.augment.flip", False),
        ("hydra_svhn_vgg16_smoothing", "attack.sigma", 0.25),
        ("hydra_svhn_vgg16_smoothing", "threat.eps", 110 / 255),
        ("hydra_cifar10_cnn_small_mixtrain", "objective.images", 5),
        ("hydra_cifar10_cnn_large_mixtrain", "objective.images", 1),
        ("hydra_cifar10_cnn_large_mixtrain_authors", "threat.eps", 0.007),
        ("hydra_cifar10_cnn_small_crown_ibp", "finetune.learning_rate", 5e-4),
        ("hydra_cifar10_cnn_small_crown_ibp_authors", "finetune.learning_rate", 1e-5),
        ("hydra_imagenet_resnet50_free_authors", "threat.eps", 0.0156),
    ],
)
def test_constants(preset: str, option: str, value: Any) -> None:
    node: Any = options(preset)
    for name in option.split("."):
        node = node[name]
    assert (fraction(node) if "/" in str(node) else node) == value


def test_the_authors_attack_step_in_pixels() -> None:
    node = options("hydra_cifar10_vgg16_trades_authors")["objective"]["attack"]
    assert node["rel_step"] * node["threat"]["eps"] == pytest.approx(0.0078, abs=1e-12)


def test_pruning_and_finetuning_start_at_the_full_eps() -> None:
    stage = plan_pruned(options("hydra_cifar10_cnn_small_crown_ibp", "threat.eps=2/255")).final
    assert (stage.options["objective"]["ramp"], stage.parent.options["objective"]["ramp"]) == (0.0, 0.0)
    assert stage.parent.parent.options["objective"]["ramp"] == 0.6
    assert all("phases" not in s.options["objective"] for s in (stage, stage.parent, stage.parent.parent))
    scratch = plan_pruned(options("hydra_cifar10_cnn_small_crown_ibp", "pruner.recovery=scratch")).final
    assert scratch.options["objective"]["ramp"] == 0.6  # from new weights, eps grows again


def test_of_phase_leaves_other_objectives_as_they_are() -> None:
    assert of_phase({"beta": 6.0}, "search") == {"beta": 6.0}
