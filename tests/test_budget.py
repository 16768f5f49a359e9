"""What a pruner starts from and for how long it trains: all methods train equally long unless told otherwise."""

from typing import Any

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import prune
from advprune.config.options import Options, options_of
from advprune.pipeline.plan import plan_pruned
from advprune.report.table.footnotes import budget_note
from advprune.report.table.job_row import epochs_of
from advprune.store.stage import Plan

LENGTHS = ("training.epochs=20", "search.epochs=10", "finetune.epochs=15")


def options(*words: str) -> Options:
    assert prune  # its import registers the schemas
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("prune", [*LENGTHS, *words])
        node: Any = OmegaConf.to_container(cfg, resolve=True)
    return options_of(node)


def plan(*words: str) -> Plan:
    return plan_pruned(options(*words))


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        (("pruner=hydra",), [20, 10, 15]),
        (("pruner=hydra", "pruner.recovery=none"), [20, 25, 0]),
        (("pruner=hydra", "pruner.start=init"), [0, 30, 15]),
        (("pruner=flying_bird",), [0, 45, 0]),
        (("pruner=flying_bird", "pruner.epochs=7"), [0, 7, 0]),
        (("pruner=magnitude",), [20, 0, 15]),
        (("pruner=magnitude", "pruner.recovery=none"), [20, 0, 0]),
        (
            ("pruner=magnitude", "pruner.schedule=cubic", "pruner.rounds=3"),
            [20, 30, 15],
        ),
    ],
)
def test_the_epochs_of_a_method(words: tuple[str, ...], epochs: list[int]) -> None:
    if "pruner.rounds=3" in words:
        words = (*words, "pruner.epochs_per_round=15")
    assert epochs_of(plan(*words)) == epochs


def test_a_pruner_from_new_weights_trains_by_the_recipe_of_training() -> None:
    chosen = options("pruner=flying_bird")
    made = plan_pruned(chosen)
    recipe = made.final.options.training.recipe
    assert recipe.learning_rate == chosen.training.learning_rate
    assert made.final.kind == "pruned"  # nothing follows
    assert "recovery" in made.final.record["pruner"]


def test_a_parent_of_its_own_leaves_the_tables_dense_network() -> None:
    plain, other = (
        plan("pruner=magnitude"),
        plan("pruner=magnitude", "+objective@pruner.parent.objective=natural"),
    )
    assert plain.dense.key == other.dense.key
    assert plain.evaluated_dense.key == other.evaluated_dense.key
    root, pruned, tuned = other.final.line
    assert root.key != plain.dense.key
    assert root.record["objective"]["_target_"].endswith("natural")
    assert root.record["select"]["metric"] == "clean_acc"
    assert tuned.record["objective"]["_target_"].endswith("trades")
    assert pruned.record == plain.final.line[1].record
    short = plan("pruner=magnitude", "pruner.parent={epochs: 3}")
    assert epochs_of(short) == [3, 0, 15]


def test_what_starts_and_follows_is_in_the_key_and_their_defaults_are_not() -> None:
    base = plan("pruner=hydra").final
    assert base.key == plan("pruner=hydra", "pruner.start=dense", "pruner.parent=null").final.key
    others = {
        plan("pruner=hydra", word).final.key
        for word in ("pruner.start=init", "pruner.start=early", "pruner.recovery=none")
    }
    assert len(others | {base.key}) == 4


def test_the_note_names_each_method_where_they_differ() -> None:
    rows = [
        {"pruner": "hydra", "epochs": [20, 10, 20]},
        {"pruner": "flying_bird", "epochs": [0, 50, 0]},
        {"pruner": None, "epochs": [20, 0, 0]},
    ]
    assert budget_note(rows) == (
        "epochs, dense + pruning + recovery: hydra 20 + 10 + 20; flying_bird 0 + 50 + 0"
    )
    assert budget_note(rows[:1]) == "epochs, dense + pruning + recovery: 20 + 10 + 20"
    assert budget_note(rows[2:]) == ""
