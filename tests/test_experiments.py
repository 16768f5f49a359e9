"""Every preset composes with each command and passes the door; those of the authors have the authors' constants."""

import itertools
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from presets import composed, grid

from advprune.config import validate
from advprune.config.groups import Objective
from advprune.config.job_names import GROUPS
from advprune.config.options import options_of, resolve
from advprune.pipeline.plan import plan_pruned
from advprune.ranges import fraction
from advprune.report.data.published import published

ROOT = Path(__file__).resolve().parents[1]
PRESETS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


@cache
def options(preset: str, *more: str, command: str = "prune") -> dict[str, Any]:
    return resolve(composed(f"experiment={preset}", *more, command=command))


def test_the_presets_of_the_paper_are_all_there() -> None:
    both = ("", "_authors")
    images = [
        f"hydra_{d}_{m}_{o}{a}"
        for d in ("cifar10", "svhn")
        for m in ("vgg16", "wrn_28_4")
        for o in ("trades", "smoothing")
        for a in both
    ]
    proofs = [
        f"hydra_{d}_cnn_{m}_{o}{a}"
        for d in ("cifar10", "svhn")
        for m in ("small", "large")
        for o in ("mixtrain", "crown_ibp")
        for a in both
    ]
    assert set(PRESETS) >= {*images, *proofs, *(f"hydra_imagenet_resnet50_free{a}" for a in both)}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_passes_the_door(preset: str) -> None:
    found = options(preset)
    validate.check_numbers(found)
    validate.check_signatures(found, GROUPS)


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
        ("benchmark_cifar10_weights", "threat.eps", 8 / 255),
        ("benchmark_cifar10_weights", "select.keep", "best"),
        ("benchmark_cifar10_weights", "attack._target_", "advprune.attacks.autoattack.autoattack"),
        ("benchmark_svhn_weights", "training.learning_rate", 0.01),
        ("gap_vgg", "training.epochs", 300),
        ("gap_vgg", "training.schedule", "step_half"),
        ("gap_vgg", "finetune.epochs", 40),
        ("gap_vgg", "finetune.schedule", "constant"),
        ("gap_googlenet_authors", "model.small_images", False),
        ("gap_mobilenet_v2_authors", "model.small_images", False),
        ("gap_mobilenet_v2_authors", "select.keep", "last"),
        ("jordao_vgg16_filters", "threat.eps", 8 / 255),
        ("jordao_vgg16_filters", "attack.steps", 1),
        ("jordao_vgg16_filters", "pruner.epochs_per_round", 40),
        ("jordao_resnet56_blocks", "model.shortcut", "projection"),
        ("jordao_resnet56_blocks", "finetune.schedule", "step_half"),
        ("jordao_resnet50_blocks", "threat.eps", 8 / 255),
        ("jordao_resnet50_blocks", "finetune.epochs", 5),
        ("jordao_resnet50_blocks", "finetune.learning_rate", 0.001),
        ("jordao_resnet50_blocks", "finetune.batch_size", 64),
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
    stage = plan_pruned(
        options_of(options("hydra_cifar10_cnn_small_crown_ibp", "threat.eps=2/255"))
    ).final
    line = (stage, stage.parent, stage.parent.parent)
    objectives = [made.record["objective"] for made in line]
    assert [node["ramp"] for node in objectives] == [0.0, 0.0, 0.6]
    assert all("phases" not in node for node in objectives)
    scratch = plan_pruned(
        options_of(options("hydra_cifar10_cnn_small_crown_ibp", "pruner.recovery=scratch"))
    ).final
    assert scratch.record["objective"]["ramp"] == 0.6  # from new weights, eps grows again


def test_an_objective_without_phases_is_the_same_in_each() -> None:
    assert Objective(node={"beta": 6.0}).in_phase("search").node == {"beta": 6.0}


def test_the_papers_of_the_other_tables_are_all_there() -> None:
    gap = [
        f"gap_{m}{a}"
        for m in ("resnet20", "vgg", "googlenet", "mobilenet_v2")
        for a in ("", "_authors")
    ]
    shrunk = ("resnet56", "resnet50", "mobilenet_v2")
    jordao = [
        "jordao_vgg16_filters",
        *(f"jordao_{model}_{unit}" for model in shrunk for unit in ("filters", "blocks")),
    ]
    benchmark = [
        f"benchmark_{d}_{unit}" for d in ("cifar10", "svhn") for unit in ("weights", "filters")
    ]
    assert set(PRESETS) >= {*gap, *jordao, *benchmark}


def commands(preset: str) -> list[dict[str, list[str]]]:
    """What the prune.py commands of a preset's comment vary, each word with its values, the preset's own grid included."""
    text = re.sub(r"\\\n#? *", "", (ROOT / "conf" / "experiment" / f"{preset}.yaml").read_text())
    words = [
        shlex.split(line.partition("prune.py ")[2])
        for line in text.splitlines()
        if "prune.py " in line
    ]
    return [
        (grid(preset) if "-m" in each else {})
        | {w.partition("=")[0]: w.partition("=")[2].split(",") for w in each if "=" in w}
        for each in words
    ]


def rows(preset: str) -> set[tuple[str, str, str, str, float]]:
    """(data set, model, pruner, removed, ratio) of every network that a preset's comment has a command for."""
    found = set()
    for said in commands(preset):
        dataset = [f"dataset={name}" for name in said.get("dataset", [])]
        for model in said.get("model", [""]):
            at = options(preset, *dataset, *([f"model={model}"] if model else []))
            family = at["model"]["_target_"].rsplit(".", 1)[-1] + str(at["model"].get("widen", ""))
            for pruner, ratio in itertools.product(
                said.get("pruner", ["hydra"]), said.get("ratio", [at["ratio"]])
            ):
                unit = "filters" if "filters" in pruner else "weights"
                found.add((at["dataset"]["name"], family, pruner, unit, float(ratio)))
    return found


def test_every_published_row_of_our_pruners_has_a_command() -> None:
    ours = {"HYDRA": "hydra", "LWM": "magnitude", "IMP": "magnitude"}
    families = {
        "resnet18": "ResNet",
        "vgg16_bn": "VGG16BN",
        "wrn_28_4": "WideResNet4",
        "wrn_28_10": "WideResNet10",
        "cnn 7 layers": "cnn_large",
    }
    there = set().union(
        *(rows(preset) for preset in PRESETS if preset.startswith(("hydra", "benchmark")))
    )
    wanted = {
        (
            row["dataset"],
            families[row["model"]],
            ours[row["pruner"]],
            row["unit"],
            round(row["ratio"], 3),
        )
        for row in published()
        if row["pruner"] in ours and row["ratio"] is not None
    }
    assert len(wanted) == 49
    assert sorted(wanted - there) == []


def test_the_seven_strategies_have_a_command_each() -> None:
    found = {
        (pruner, scope, *said.get("pruner.score", [""]))
        for said in commands("gap_resnet20")
        if "quantizer" not in said
        for pruner in said["pruner"]
        for scope in said.get("pruner.scope", ["global"])
    }
    both = {
        (pruner, scope, "") for pruner in ("magnitude", "gradient") for scope in ("global", "layer")
    }
    assert found == {
        ("random", "global", ""),
        ("gap", "global", ""),
        ("gap", "layer", "abs"),
        *both,
    }


def test_every_experiment_says_what_to_expect_and_what_it_costs() -> None:
    for preset in PRESETS:
        text = (ROOT / "conf" / "experiment" / f"{preset}.yaml").read_text()
        assert re.search(r"expect|measured here", text, re.IGNORECASE), preset
        assert re.search(r"cost|minutes on a GPU", text, re.IGNORECASE), preset


SMALL_JOB = ("experiment=small_benchmark_digits_weights", "pruner=magnitude", "attack=pgd", *TINY)


def test_another_attack_than_the_experiments_needs_none_of_its_options(job: Any) -> None:
    told = job(*SMALL_JOB)
    assert "failed" not in told, told["failed"]
    assert told["row"]["attack"].startswith("pgd")


def test_an_option_of_another_attack_that_the_command_gives_is_refused(job: Any) -> None:
    assert "attack has no option engine" in job(*SMALL_JOB, "attack.engine=fast")["failed"]
