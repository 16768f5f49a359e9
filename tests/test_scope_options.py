"""What a scope or a perturbation cannot do is refused before training; what it did is in the result."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file
from test_keys import OPTIONS, changed, keys

from advprune.masks import keep_count
from advprune.modules.recipe import Perturb, Recipe

LATE = "search.perturb.warmup_epochs=0"
NM = ("pruner.scope=nm", "pruner.n=2", "pruner.m=4")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ratio=0.9", *NM), r"ratio=0.9 is not what scope=nm removes .*: give ratio=0.5$"),
        (("pruner.scope=nm",), r"give for example pruner.n=2 pruner.m=4 ratio=0.5$"),
        (("pruner.scope=nm", "pruner.n=4", "pruner.m=4"), r"1 <= n < m <= 32, not n=4 of m=4"),
        (("pruner.n=2",), r"pruner.n=2 and pruner.m=None are not looked at"),
        (("pruner.schedule=linear", "pruner.rounds=2", *NM), r"give pruner.schedule=one_shot$"),
        (("pruner.scope=nm", "pruner.n=15", "pruner.m=30"), r"finds no layer whose input channels"),
        (("pruner.scope=igq", "ratio=0.9999"), r"too few for one in each of 4 tensors; lower"),
        (("pruner=gap", "pruner.scope=lamp"), r"scope=lamp compares squares"),
        (
            ("pruner=flying_bird", "pruner.scope=columns"),
            r"give pruner.scope=layer, or pruner=radmm_",
        ),
        (("pruner=gap", "pruner.scope=igq", "pruner.select=quantile"), r"prunes once, by scope="),
        (("pruner=harp", *NM), r"give pruner.scope=layer or erk, or pruner=hydra$"),
        (("training.perturb.what=scores",), r"only a search learns scores; give search.perturb"),
        (
            ("training.perturb.what=weights", "training.perturb.warmup_epochs=2"),
            r"leaves no epoch of training.epochs=2 to perturb: give fewer, such as 0",
        ),
        (("pruner=hydra", "search.perturb.what=weights", LATE), r"finds no weights that train"),
        (
            ("pruner=rigl", "search.perturb.what=scores", LATE),
            r"this pruner has no search of its own",
        ),
        (
            ("pruner=magnitude", "search.perturb.what=scores", LATE),
            r"this pruner has no search of its own",
        ),
        (("training.perturb.gamma=-1",), r"it must be at least 0 and at most 1$"),
    ],
)
def test_what_cannot_be_is_refused_before_training(
    job: Any, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    pruner = () if any(word.startswith("pruner=") for word in words) else ("pruner=magnitude",)
    out = job(*TINY, "ratio=0.5", *pruner, *words)
    assert re.search(sentence, out["failed"]), out["failed"]
    assert not (tmp_path / "stages").exists()


@pytest.mark.slow
def test_columns_are_whole_on_disk(job: Any, tmp_path: Path) -> None:
    job(*TINY, "ratio=0.5", "pruner=radmm_columns")
    (folder,) = (tmp_path / "stages").glob("finetuned/*")
    weights = load_file(folder / "model.safetensors")
    counted = json.loads((folder / "result.json").read_text())["columns"]
    for name, (kept, total) in counted.items():
        living = (weights[name] != 0).flatten(1)
        assert torch.equal(living.any(0), living.all(0))
        assert (int(living.all(0).sum()), living.shape[1]) == (kept, total)
        assert kept == keep_count(total, 0.5)


@pytest.mark.slow
def test_groups_are_counted_and_layers_without_them_named(job: Any, tmp_path: Path) -> None:
    job(*TINY, "ratio=0.5", *NM, "pruner=hydra")
    (path,) = (tmp_path / "stages").glob("finetuned/*/result.json")
    result = json.loads(path.read_text())
    assert result["dense"] == ["conv1.weight"]
    assert result["grouped"] == ["conv2.weight", "conv3.weight", "linear.weight"]
    assert [result["layers"][name] for name in result["grouped"]] == [0.5] * 3
    assert result["layers"]["conv1.weight"] == 0


@pytest.mark.slow
def test_a_search_and_a_training_are_perturbed_and_keys_say_so(job: Any) -> None:
    awp = ("training.perturb.what=weights", "training.perturb.warmup_epochs=0")
    s2ap = ("search.perturb.what=scores", "search.perturb.warmup_epochs=1")
    first, second = job(*TINY, "ratio=0.5", *awp, *s2ap), job(*TINY, "ratio=0.5", *awp)
    assert first["row"]["made"] == 5
    assert second["row"]["found"] == 2  # the dense network and its evaluation


def test_a_perturbation_of_nothing_is_in_no_key() -> None:
    assert Recipe().perturb == Perturb()
    for phase in ("training", "search", "finetune"):
        idle = {"what": None, "gamma": 0.3, "warmup_epochs": 4.0}
        assert keys(changed(f"{phase}.perturb", idle)) == keys(OPTIONS)
    moved = keys(changed("finetune.perturb", {"what": "weights", "gamma": 0.005}))
    stays = {name for name, key in keys(OPTIONS).items() if moved[name] == key}
    assert stays == {"dense", "pruned", "evaluated_dense"}
