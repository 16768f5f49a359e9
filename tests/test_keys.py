"""A stage's key: what is in it, what is not, and a few that must never change."""

import copy
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advprune.config.fingerprints import with_fingerprints
from advprune.config.job_names import shown
from advprune.config.options import options_of, spelled
from advprune.masks import keep_count
from advprune.pipeline.plan import plan_dense, plan_pruned
from advprune.ranges import number
from advprune.store.keys import canonical, key

OPTIONS: dict[str, Any] = {
    "seed": 0,
    "ratio": 0.9,
    "dense": None,
    "store": "somewhere",
    "dataset": {
        "_target_": "d.D",
        "num_classes": 10,
        "channels": 1,
        "image_size": 8,
        "mean": [0.5],
        "std": [0.5],
        "root": "data",
        "validation": 0.1,
        "extra": None,
        "eps": {"linf": 0.15},
        "epochs": {"dense": 20},
        "augment": {"crop": 1},
    },
    "model": {"_target_": "m.m", "width": 8, "mean": None, "std": None},
    "objective": {"_target_": "o.o", "beta": 6, "select": "robust_acc"},
    "threat": {"_target_": "t.Linf", "eps": "8/255"},
    "training": {"epochs": 20, "learning_rate": 0.1},
    "search": {"epochs": 10},
    "finetune": {"epochs": 20},
    "select": {"keep": "best", "metric": "robust_acc", "images": 1000, "steps": 10},
    "pruner": {
        "criterion": {"_target_": "p.magnitude"},
        "scope": "layer",
        "schedule": "one_shot",
        "rounds": 1,
        "epochs_per_round": 20,
        "process": None,
        "start": "dense",
        "recovery": "finetune",
        **dict.fromkeys(("unit", "budget", "floor", "round_to", "score", "remove", "select")),
        **dict.fromkeys(("biases", "classifier")),
    },
    "attack": {"_target_": "a.pgd", "steps": 50, "images": None, "batch_size": 256},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    options = copy.deepcopy(OPTIONS)
    *parents, last = path.split(".")
    node = options
    for name in parents:
        node = node[name]
    node[last] = value
    return options


def keys(options: dict[str, Any]) -> dict[str, str]:
    plan = plan_pruned(options_of(with_fingerprints(options)))
    return {
        "dense": plan.dense.key,
        "pruned": plan.final.parent.key,
        "finetuned": plan.final.key,
        "evaluated": plan.evaluated.key,
        "evaluated_dense": plan.evaluated_dense.key,
    }


@pytest.mark.parametrize(
    ("path", "value", "moved"),
    [
        ("dataset.root", "elsewhere", set()),
        ("store", "elsewhere", set()),
        ("dataset.new_option", None, set()),
        ("threat.eps", 8 / 255, set()),
        ("objective.beta", 6.0, set()),
        (
            "dataset.epochs.dense",
            21,
            set(),
        ),  # training.epochs holds the value; here it did not follow
        ("attack.steps", 51, {"evaluated", "evaluated_dense"}),
        ("attack.images", 100, {"evaluated", "evaluated_dense"}),
        ("finetune.epochs", 21, {"finetuned", "evaluated"}),
        ("pruner.recovery", "scratch", {"finetuned", "evaluated"}),
        ("ratio", 0.99, {"pruned", "finetuned", "evaluated"}),
        ("pruner.scope", "global", {"pruned", "finetuned", "evaluated"}),
        ("seed", 1, {"dense", "pruned", "finetuned", "evaluated", "evaluated_dense"}),
        (
            "dataset.augment",
            {"crop": 2},
            {"dense", "pruned", "finetuned", "evaluated", "evaluated_dense"},
        ),
        ("threat.eps", "4/255", {"dense", "pruned", "finetuned", "evaluated", "evaluated_dense"}),
        ("dataset.mean", [0.4], {"dense", "pruned", "finetuned", "evaluated", "evaluated_dense"}),
    ],
)
def test_an_option_moves_the_keys_it_decides_and_no_other(
    path: str, value: Any, moved: set[str]
) -> None:
    before, after = keys(OPTIONS), keys(changed(path, value))
    assert {name for name in before if before[name] != after[name]} == moved


def test_a_grid_over_ratios_and_attacks_shares_its_dense_parent() -> None:
    plans = [
        plan_pruned(options_of(with_fingerprints(changed("ratio", ratio))))
        for ratio in (0.5, 0.9, 0.99)
    ]
    assert len({stage.key for plan in plans for stage in plan.stages if stage.kind == "dense"}) == 1
    assert len({stage.key for plan in plans for stage in plan.stages}) == 2 + 3 * 3


def test_train_and_prune_mean_the_same_dense_network() -> None:
    assert (
        plan_dense(options_of(with_fingerprints(OPTIONS))).dense.key
        == plan_pruned(options_of(with_fingerprints(OPTIONS))).dense.key
    )


def test_foreign_weights_are_known_by_their_content(tmp_path: Any) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    (tmp_path / "b.pt").write_bytes(b"weights")
    (tmp_path / "c.pt").write_bytes(b"others")
    a, b, c = (
        plan_dense(
            options_of(with_fingerprints(OPTIONS | {"dense": str(tmp_path / name)}))
        ).dense.key
        for name in ("a.pt", "b.pt", "c.pt")
    )
    assert a == b != c


def test_pinned_keys() -> None:
    """Results on people's disks are found by these; a change orphans them and needs a recipe number instead."""
    assert keys(OPTIONS) == {
        "dense": "d54d0ebd25dbb2cb",
        "pruned": "e0f13ddcc1af20e3",
        "finetuned": "12b0a78553af1a50",
        "evaluated": "4bd48e0bec16afd7",
        "evaluated_dense": "441f95b76391d336",
    }


def test_canonical() -> None:
    found = canonical({"b": None, "a": [6, "8/255", True, "1e-3", "3e5a"]})
    assert found == {"a": [6.0, number(8 / 255), True, 0.001, "3e5a"]}
    assert (
        key("dense", {"x": 1}, None)
        != key("pruned", {"x": 1}, None)
        != key("pruned", {"x": 1}, "p")
    )


@pytest.mark.parametrize(
    "spellings",
    [
        (
            0.96,
            "0.96",
            "96e-2",
            ".96",
            0.9 + 0.03 + 0.03,
            0.9 + 2 * 0.03,
            np.float64(0.96),
            Fraction(96, 100),
        ),
        (8 / 255, "8/255", "8 / 255.0", 0.03137254901960784, "0.03137254901960784"),
        (1, 1.0, "1", "1.0", np.int64(1), np.float32(1)),
        (0, 0.0, -0.0, "-0.0", "0/3"),
        (0.1 + 0.2, 0.3, "3e-1"),
        *([sum([0.01] * k), k / 100, f"{k}e-2"] for k in range(1, 100)),
    ],
)
def test_a_number_has_one_spelling(spellings: Any) -> None:
    assert len({json.dumps(canonical(value)) for value in spellings}) == 1


@pytest.mark.parametrize(
    ("node", "idle"),
    [
        ({"optimizer": "adam"}, {"momentum": 0.5, "nesterov": True}),
        ({"optimizer": "sgd"}, {"nesterov": False}),
        ({"start": "uniform"}, {"start_noise": 0.1}),
        ({"metric": "clean_acc"}, {"steps": 20}),
        ({"_target_": "a", "engine": None}, {"precision": "bf16"}),
        ({"form": "gaussian"}, {"beta": 3.0, "entropy": 1.0}),
        ({"form": "stability"}, {"entropy": 1.0}),
        ({"ranges": "dynamic", "epochs": 5}, {"images": 7}),
        ({"ranges": "static", "epochs": 0}, {"learning_rate": 0.1}),
        ({"schedule": "one_shot"}, {"epochs_per_round": 3}),
        ({"schedule": "linear", "process": {"init": "scaled"}}, {"epochs_per_round": 3}),
        ({"select": "bernoulli"}, {"scope": "global"}),
        (
            {"unit": None},
            {"start": "dense", "remove": "smallest", "biases": False, "classifier": True},
        ),
        ({"unit": "filters"}, {"floor": 1, "round_to": 1}),
        ({"unit": "blocks"}, {"floor": 2}),
    ],
)
def test_what_nothing_looks_at_moves_no_key(node: dict[str, Any], idle: dict[str, Any]) -> None:
    assert canonical(node | idle) == canonical(node)


@pytest.mark.parametrize(
    "node",
    [
        {"optimizer": "sgd", "momentum": 0.5, "nesterov": True},
        {"start": "gaussian", "start_noise": 0.1},
        {"steps": 20, "metric": "robust_acc"},
        {"steps": 20},
        {"engine": "fast", "precision": "bf16"},
        {"precision": "bf16"},
        {"form": "stability", "beta": 3.0},
        {"beta": 3.0},
        {"form": "consistency", "entropy": 1.0, "beta": 1.0},
        {"images": 7},
        {"ranges": "static", "images": 7, "epochs": 1, "learning_rate": 0.1},
        {"learning_rate": 0.1},
        {"schedule": "linear", "epochs_per_round": 3, "process": None},
        {"select": "quantile", "scope": "global"},
        {"remove": "largest", "biases": True, "classifier": False},
        {"unit": "blocks", "floor": 1},
        {"unit": "filters", "floor": 2, "round_to": 8},
    ],
)
def test_what_is_looked_at_stays_in_the_key(node: dict[str, Any]) -> None:
    assert canonical(node).keys() == {name for name, value in node.items() if value is not None}


def test_numbers_that_differ_stay_apart_and_text_stays_text() -> None:
    apart = [
        0.96,
        0.961,
        0.96000000001,
        1e-13,
        2e-13,
        0.0,
        2**60,
        2**60 + 1,
        1234567890123,
        1234567890124,
        "0.96a",
    ]
    assert len({json.dumps(canonical(value)) for value in apart}) == len(apart)
    for checksum in ("1234567890123456", "12345678901234e5", "1e999", "0x10"):
        assert canonical(checksum) == checksum


def test_no_radius_moves_when_a_float_is_spelled() -> None:
    for k in range(1, 256):
        assert np.float32(number(k / 255)) == np.float32(k / 255)


def test_a_swept_float_is_the_typed_one_in_key_table_and_count() -> None:
    swept = 0.9 + 0.03 + 0.03
    assert swept != 0.96
    assert spelled({"ratio": swept, "a": [swept, True, "x", 3]}) == {
        "ratio": 0.96,
        "a": [0.96, True, "x", 3],
    }
    assert keys(changed("ratio", swept)) == keys(changed("ratio", 0.96))
    words = (str(swept), f"[{swept},0.5]", "runs/0.96", "1e-3")
    assert [shown(word) for word in words] == ["0.96", "[0.96,0.5]", "runs/0.96", "1e-3"]
    # 0.04 * 12.5 is a half in the decimal: the even count, whatever the float
    assert [keep_count(n, swept) for n in (25, 100, 1250, 62500)] == [1, 4, 50, 2500]
    assert keep_count(75, 0.1 + 0.2 + 0.1) == keep_count(75, 0.4)


def test_other_test_images_are_for_the_evaluation_alone(tmp_path: Any) -> None:
    (tmp_path / "a_data.npy").write_bytes(b"images")
    (tmp_path / "b_data.npy").write_bytes(b"other images")
    none, a, b = (
        keys(OPTIONS),
        *(keys(changed("dataset.test", str(tmp_path / f"{n}_data.npy"))) for n in "ab"),
    )
    for name in none:
        assert (len({none[name], a[name], b[name]}) == 3) == name.startswith("evaluated")


def test_published_corruptions_are_known_by_their_files(tmp_path: Any) -> None:
    for folder, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "fog.npy").write_bytes(content)
    a, b, c = (keys(changed("attack.root", str(tmp_path / name)))["evaluated"] for name in "abc")
    assert a == b != c


def test_a_smaller_network_is_known_by_its_structure_too(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"some weights")
    found = [plan_dense(options_of(with_fingerprints(OPTIONS | {"dense": str(weights)}))).dense.key]
    for structure in ("one", "two"):
        (tmp_path / "structure.json").write_text(structure)
        found.append(
            plan_dense(options_of(with_fingerprints(OPTIONS | {"dense": str(weights)}))).dense.key
        )
    assert len(set(found)) == 3
    assert found[0] == "61a0750fee517dc5"  # as it was before structures were looked at
