"""One pass of a criterion over the images serves all ratios and scopes, and changes no bit of what they prune."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache, reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, TINY
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from presets import composed
from safetensors.torch import load_file

from advprune.config.groups import Method, Pruner
from advprune.config.options import Options, load, options_of
from advprune.distributed.environment import settle
from advprune.models.cifar_resnet import CifarResNet
from advprune.modules.kept_scores import KeptScores, kept
from advprune.pipeline.executor import ensure_stages, missing
from advprune.pipeline.steps import dense, pruned
from advprune.pruners.scoring import moves_statistics
from advprune.stages.training_phase import RunContext
from advprune.store.stage import Plan
from advprune.store.store import Store
from advprune.tracking.logger import Logger
from benchmarks._digits import PIXELS

CONF = ROOT / "conf" / "pruner"
#: A network that is trained already: nothing is trained here.
DENSE = (
    *TINY,
    "dataset.train_images=64",
    "model.widths=[24,48,48]",
    f"dense={ROOT / 'src/advprune/zoo/digits/small_cnn/dense/model.safetensors'}",
)
#: Criteria that look at weights, or at no more than the shape of an image and a forward pass of one.
NO_IMAGES = {"magnitude", "random", "bnap", "synflow", "l1", "l2", "fpgm", "bn_scale"}


@cache
def options(*words: str) -> Options:
    GlobalHydra.instance().clear()
    return load(composed(*DENSE, *words))


def plan_of(chosen: Options) -> Plan:
    """The network alone: nothing is fine-tuned or attacked."""
    parent = dense.stage(chosen)
    last = pruned.stage(chosen, parent)
    return Plan(parent, last, parent, last)


def made(plan: Plan, chosen: Options, store: Store) -> dict[str, bytes]:
    """Make the plan's stages; give back the files of what was pruned."""
    where = RunContext(chosen.trainer, Logger(), store.root.parent)
    settle(chosen.trainer, 8)
    ensure_stages(plan, store, where)
    names = ("model.safetensors", "masks.safetensors", "structure.json")
    folder = store.folder(plan.final)
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def alone(plan: Plan) -> Plan:
    """The same plan, in which pruning scores by itself."""
    last = replace(plan.final, scores=None)
    return Plan(plan.dense, last, plan.dense, last)


def events(store: Store) -> list[tuple[str, str]]:
    lines = (store.root / "journal.jsonl").read_text().splitlines()
    return [(line["event"], line["stage"]) for line in map(json.loads, lines)]


ROUNDS = ("pruner.schedule=linear", "pruner.rounds=3", "pruner.epochs_per_round=0")
FAST = [("pruner=gap_authors",), ("pruner=activation", *ROUNDS)]
SLOW = [
    ("pruner=gap",),
    ("pruner=gap_authors", "pruner.criterion.scope=global", "pruner.scope=layer"),
    ("pruner=fisher",),
    ("pruner=mad", "pruner.criterion.steps=2"),
    ("pruner=gradient",),
    ("pruner=snip", "dense=null"),
]
UNITS = [
    ("pruner=filters", f"pruner/criterion={name}", "pruner.criterion.images=32")
    for name in ("hrank", "taylor", "expected_abs", "pls", "kl", "cka")
]


@pytest.mark.parametrize(
    "words",
    [*FAST, UNITS[0], *(pytest.param(w, marks=pytest.mark.slow) for w in (*SLOW, *UNITS[1:]))],
    ids=lambda words: " ".join(word.rpartition("=")[2] for word in words),
)
def test_two_ratios_share_a_pass_and_prune_what_two_passes_would(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    shared, apart = Store(tmp_path / "shared"), Store(tmp_path / "apart")
    given = options(*words)
    for ratio in (0.3, 0.6):
        chosen = replace(given, ratio=ratio)
        plan = plan_of(chosen)
        assert plan.final.scores is not None
        assert made(plan, chosen, shared) == made(alone(plan), chosen, apart)
        result = shared.result(plan.final)
        assert result["scores"] == plan.final.scores.key
        assert result["seconds"] >= shared.result(plan.final.scores)["seconds"]
    assert events(shared).count(("made", "scores")) == 1
    assert events(shared).count(("found", "scores")) == 1
    assert ("made", "scores") not in events(apart)


def test_what_is_pruned_needs_its_scores_no_more(tmp_path: Path) -> None:
    chosen, store = options("pruner=activation", "ratio=0.5"), Store(tmp_path / "stages")
    plan = plan_of(chosen)
    assert plan.final.scores is not None
    assert [stage.kind for stage in missing(plan, store)] == ["dense", "scores", "pruned"]
    before = made(plan, chosen, store)
    shutil.rmtree(store.root / "scores")
    assert missing(plan, store) == []
    made(plan, chosen, store)
    assert events(store).count(("made", "scores")) == 1
    shutil.rmtree(store.folder(plan.final))
    assert [stage.kind for stage in missing(plan, store)] == ["scores", "pruned"]
    assert made(plan, chosen, store) == before


def test_damaged_scores_are_made_again(tmp_path: Path) -> None:
    chosen, store = options("pruner=activation", "ratio=0.5"), Store(tmp_path / "stages")
    made(plan_of(chosen), chosen, store)
    file = next((store.root / "scores").glob("*/scores.safetensors"))
    file.write_bytes(file.read_bytes()[:-8] + b"damaged!")
    other = replace(chosen, ratio=0.6)
    made(plan_of(other), other, store)
    assert events(store).count(("made", "scores")) == 2


def scores_key(changes: dict[str, Any]) -> str:
    """The key of GAP's scores, with options changed by their paths."""
    node = copy.deepcopy(options("pruner=gap").node)
    for path, value in changes.items():
        *parents, last = path.split(".")
        reduce(dict.__getitem__, parents, node)[last] = value
    scores = plan_of(options_of(node)).final.scores
    assert scores is not None
    return scores.key


def test_how_scores_are_spent_is_not_in_their_key() -> None:
    spent = {"scope": "layer", "remove": "smallest", "select": "quantile", "recovery": "scratch"}
    others = {"ratio": None, "compression": 4, "attack.steps": 9, "objective.beta": 3.0}
    changes = {f"pruner.{name}": value for name, value in spent.items()} | others
    assert scores_key(changes) == scores_key({})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("pruner.criterion.score", "abs"),
        ("pruner.criterion.count", 2),
        ("pruner.criterion.attack.steps", 9),
        ("pruner.criterion.attack.threat.eps", 0.1),
        ("pruner.biases", False),
        ("pruner.classifier", True),
        ("pruner.start", "init"),
        ("dataset.train_images", 100),
    ],
)
def test_what_decides_scores_is_in_their_key(path: str, value: Any) -> None:
    assert scores_key({path: value}) != scores_key({})


def test_criteria_that_look_at_no_images_make_no_stage() -> None:
    spent = {"scope": "layer", "unit": None, "budget": None, "floor": None, "round_to": None}
    rounds = {"schedule": "one_shot", "rounds": 1, "epochs_per_round": 0, "recovery": "none"}
    others = dict.fromkeys(("remove", "select", "biases", "classifier", "score"))
    shares: dict[str, bool] = {}
    for path in [*CONF.glob("*.yaml"), *(CONF / "criterion").glob("*.yaml")]:
        node: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        node = node if path.parent.name == "criterion" else node.get("criterion")
        if node:
            pruner = Pruner(criterion=Method(node), **spent, **rounds, **others)  # type: ignore[arg-type]
            shares[path.stem] = pruner.shares_scores
    assert {name for name, shared in shares.items() if not shared} == NO_IMAGES


def test_rounds_of_weights_with_training_between_score_by_themselves() -> None:
    rounds = ("pruner.schedule=linear", "pruner.rounds=2", "pruner.epochs_per_round=1")
    for words, shared in (
        (("pruner=gap", *rounds), False),
        (("pruner=filters", "pruner/criterion=taylor", *rounds), True),
    ):
        assert (plan_of(options(*words)).final.scores is not None) == shared


def test_a_kept_pass_leaves_what_the_criterion_left(tmp_path: Path) -> None:
    """The scores, BatchNorm's statistics where they moved, and the next random number."""

    @moves_statistics
    def criterion(model: Any, batches: Any) -> Any:
        model.get_buffer("bn1.running_mean").add_(torch.rand(()))
        return {"conv1.weight": torch.rand(model.conv1.weight.shape).mT}

    def result(score: Callable[..., Any]) -> tuple[Any, ...]:
        torch.manual_seed(0)
        net = CifarResNet(depth=8, width=4, **PIXELS)
        with kept(net, tmp_path / "again") as scores:
            scores |= score(net, [])
        return scores["conv1.weight"], net.state_dict(), torch.rand(3)

    torch.manual_seed(0)
    net = CifarResNet(depth=8, width=4, **PIXELS)
    with kept(net, tmp_path / "scores") as scores:
        scores |= criterion(net, [])
    names = {"score.conv1.weight", "statistics.bn1.running_mean", "random_state"}
    assert set(load_file(tmp_path / "scores")) == names
    for one, other in zip(result(criterion), result(KeptScores(tmp_path / "scores")), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
