"""Presets with the constants of the authors' code: each composes and trains for two steps, with the published numbers."""

from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY
from presets import options

NAMES = [path.stem for path in sorted((ROOT / "conf" / "pruner").glob("*_authors.yaml"))]
#: Two steps an epoch; intervals and images of the authors' long runs, where a preset has them.
SHORT = {
    "process.every": ("pruner.process.every=null",),
    "criterion.count": ("pruner.criterion.count=1", "pruner.criterion.steps=2"),
}


def value(node: Any, path: str) -> Any:
    for part in path.split("."):
        node = (node or {}).get(part)
    return node


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_composes_and_trains_for_two_steps(name: str, job: Any, tmp_path: Path) -> None:
    pruner = options("prune", f"pruner={name}")["pruner"]
    words = ["training.epochs=1", "search.epochs=1", "finetune.epochs=1", "attack.images=32"]
    words += ["pruner.epochs=1"] if pruner["process"] else []
    for path, short in SHORT.items():
        words += short if path in NUMBERS[name] else []
    out = job(*TINY, f"pruner={name}", "ratio=0.5", *words)
    assert out.get("failed") is None
    # where the classifier is left alone, it is most of this narrow network
    expected = 0.17 if pruner["classifier"] is False else 0.5
    assert out["row"]["sparsity"] == pytest.approx(expected, abs=0.01)


#: What the authors' code has, as far as a pruner's YAML says it.
NUMBERS: dict[str, dict[str, Any]] = {
    "bcs_authors": {
        "process.noise": 1e-6,
        "process.ends": 0.6,
        "process.stage": 0.2,
        "process.rest": 0.5,
        "epochs": 200,
    },
    "gap_authors": {"select": "quantile", "biases": True, "classifier": False},
    "harp_authors": {
        "process.gamma": 0.01,
        "process.floor": 0.1,
        "process.density": 0.1,
        "process.rate_decay": 1,
        "process.init": "scaled",
    },
    "iht_authors": {"start": "init", "recovery": "none"},
    "li20_authors": {
        "process.learning_rate": 0.1,
        "process.weight_decay": 0.2,
        "scope": "normed",
        "rounds": 1,
        "recovery": "scratch",
        "objective.attack.steps": 1,
    },
    "mad_authors": {
        "criterion.attack.threat.eps": 0.03,
        "criterion.attack.steps": 10,
        "criterion.attack.rel_step": 0.23,
        "criterion.count": None,
        "criterion.steps": 20,
        "criterion.learning_rate": 0.1,
        "criterion.classifier": "rows",
        "scope": "global",
        "biases": True,
    },
    "pwoa_authors": {
        "process.rho": 0.01,
        "process.growth": 1.35,
        "process.largest": 1.0,
        "process.every": 3,
        "process.fresh_copies": True,
        "scope": "layer",
        "epochs": 50,
    },
    "radmm_authors": {
        "process.rho": 1e-3,
        "process.growth": 1.3,
        "process.every": 20,
        "process.attached_duals": True,
        "process.restarts": True,
        "scope": "layer",
        "epochs": 200,
        "classifier": False,
    },
    "robust_bird_authors": {
        "process.stop": "absolute",
        "process.threshold": 0.08,
        "scope": "global",
        "recovery": "retrain",
    },
    "rst_authors": {"process.init": "kaiming", "scope": "layer", "epochs": 160},
    "twin_rep_authors": {
        "process.init": "kaiming",
        "process.at": 0.09,
        "through": "product",
        "scope": "global",
        "recovery": "none",
        "epochs": 100,
    },
}


@pytest.mark.parametrize(("name", "path"), [(n, path) for n in NUMBERS for path in NUMBERS[n]])
def test_the_numbers_are_the_authors(name: str, path: str) -> None:
    assert value(options("prune", f"pruner={name}")["pruner"], path) == NUMBERS[name][path]


def test_every_preset_is_looked_at() -> None:
    assert set(NUMBERS) >= {name for name in NAMES if not name.startswith("flying_bird")}
