"""``attack.eps``: a network made for one radius and judged at another; nothing else moves."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT, TINY
from hydra import compose, initialize_config_dir

import prune  # noqa: F401 - registers the schemas
from advprune.config import validate
from advprune.config.options import options_of, resolve
from advprune.errors import UserError
from advprune.pipeline.plan import plan_pruned


def options(*words: str) -> dict[str, Any]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return resolve(compose("prune", list(words)))


def balls(node: Any) -> list[Any]:
    """The eps of every threat in the node."""
    if isinstance(node, list):
        return [eps for item in node for eps in balls(item)]
    if not isinstance(node, dict):
        return []
    own = [node["eps"]] if str(node.get("_target_")).startswith("advprune.threat.") else []
    return own + [eps for value in node.values() for eps in balls(value)]


@pytest.mark.parametrize("attack", ["pgd", "autoattack", "worst_of", "transfer", "certify_ibp"])
def test_every_ball_of_the_attack_moves_and_none_of_training(attack: str) -> None:
    found = options(f"attack={attack}", "attack.eps=0.1")
    assert set(balls(found["attack"])) == {0.1}
    assert set(balls([found["objective"], found["threat"]])) == {0.15}
    plan = plan_pruned(options_of(found))
    assert {
        eps
        for stage in plan.stages
        if stage.kind in ("evaluated", "examples")
        for eps in balls(stage.record)
    } == {0.1}


def test_only_evaluations_have_another_key_and_the_own_radius_is_no_other() -> None:
    plain, same, other = (
        plan_pruned(options_of(options(*words)))
        for words in ([], ["attack.eps=3/20"], ["attack.eps=0.1"])
    )
    assert [stage.key for stage in same.stages] == [stage.key for stage in plain.stages]
    assert (other.final.key, other.dense.key) == (plain.final.key, plain.dense.key)
    assert {other.evaluated.key, other.evaluated_dense.key}.isdisjoint(
        stage.key for stage in plain.stages
    )


def test_an_attack_with_a_set_of_its_own_has_no_eps() -> None:
    with pytest.raises(UserError, match=r"attack\.eps=0\.1 is not looked at.*up to 15 degrees"):
        validate.check_numbers(options("attack=rotation", "attack.eps=0.1"))


def test_both_radii_are_judged_of_one_network(job: Any, tmp_path: Path) -> None:
    rows = [job(*TINY, f"attack.eps={eps}", command="train")["row"] for eps in ("null", 0.3)]
    assert [row["eps"] for row in rows] == [0.15, 0.3]
    assert [row["made"] for row in rows] == [2, 1]
    farthest = [
        pd.read_parquet(f"{row['files']['evaluated']}/records.parquet")["distance"].max()
        for row in rows
    ]
    assert farthest == pytest.approx([0.15, 0.3], abs=1e-6)
    wrong = job(*TINY, "attack.eps=8", command="train")
    assert (
        "attack.eps=8 is not possible: it must be above 0 and at most 1; eps is in [0, 1] pixel units"
        in wrong["failed"]
    )
