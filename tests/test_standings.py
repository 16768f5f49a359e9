"""The standings: who leads by how much, what is the layout and what the method, on counts that are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advprune.report.data.names import names_from_commands
from advprune.report.data.records import ImageOutcomes
from advprune.report.data.runs import Run, StoredStage
from advprune.report.standings.claims import CLAIMS, answers
from advprune.report.standings.entry import Entry
from advprune.report.standings.layouts import layout_effects, mean_effect, split_lead
from advprune.report.standings.page import page
from advprune.report.standings.table import tables

IMAGES = 200


def stage(kind: str, options: dict[str, Any], result: dict[str, Any] | None = None) -> StoredStage:
    return StoredStage(kind, kind, Path(kind), options, {"parent": None, **(result or {})}, "")


def entry(
    pruner: str,
    right: int,
    *,
    ratio: float | None = 0.9,
    layout: str = "layer",
    unit: str = "weights",
    perturb: str | None = None,
    pruned: dict[str, Any] | None = None,
    seeds: int = 3,
) -> Entry:
    """A method that has the first ``right`` of 200 images right, on each of its seeds."""
    recipe = {"epochs": 20, "perturb": {"what": perturb}}
    options = {"scope": layout, "start": "dense"}
    command = f"python prune.py pruner={pruner} pruner.scope={layout}"
    network = (
        stage("dense", {"objective": {}, "training": recipe}),
        stage("pruned", {"pruner": options, "search": {"epochs": 10}}, pruned),
        stage("finetuned", {"recipe": recipe}),
    )
    runs = {
        seed: Run(
            (*network, stage("evaluated", {"seed": seed}, {"provenance": {"command": command}}))
        )
        for seed in range(seeds)
    }
    bits = np.packbits(np.arange(IMAGES) < right)
    outcome = ImageOutcomes("robust_ok", bits, IMAGES, "the same images", {})
    row = {
        "pruner": pruner, "ratio": ratio, "dataset": "d", "model": "m", "unit": unit, "budget": None, "ratio_of": unit, "objective": "trades",
        "attack": "autoattack", "norm": "linf", "eps": 0.1, "images": IMAGES, "perturbation": None, "seeds": seeds,
        "seconds": 30.0, "clean_acc": 1.0, "robust_acc": right / IMAGES, "after_each": None,
    }  # fmt: skip
    return Entry(row, {seed: (run, outcome) for seed, run in runs.items()})


def test_a_lead_of_many_images_is_significant_and_one_of_two_is_not() -> None:
    """McNemar's exact p of 60 images to none is 2^-59, of 2 to none 1/2, whatever the correction."""
    (table,) = tables([entry("random", 100), entry("hydra", 160), entry("magnitude", 158)])
    (standings,) = table
    assert [e.name for e in standings.entries] == ["hydra", "magnitude", "random"]
    magnitude, random = standings.of_best[1], standings.of_best[2]
    assert (magnitude["difference"], magnitude["p"]) == (pytest.approx(-0.01), 0.5)
    assert (random["difference"], random["p"]) == (pytest.approx(-0.3), pytest.approx(2.0**-59))
    assert (magnitude["significant"], random["significant"]) == (False, True)
    assert standings.of_reference == standings.of_best  # hydra is both


def test_what_is_removed_and_whether_awp_trains_make_tables_of_their_own() -> None:
    found = tables([
        entry("hydra", 150), entry("filters", 150, unit="filters"), entry("hydra", 150, perturb="weights"),
    ])  # fmt: skip
    assert len(found) == 3
    assert all(len(table) == len(table[0].entries) == 1 for table in found)


def test_a_ratio_of_all_weights_but_the_last_layer_s_has_a_table_of_its_own() -> None:
    """GAP at 0.99 keeps fifteen times as many weights as HYDRA does: it is not first, it is elsewhere."""
    gap = entry("gap", 190)
    gap.row["ratio_of"] = "weights but the classifier's"
    named = [
        [e.name for s in table for e in s.entries] for table in tables([entry("hydra", 150), gap])
    ]
    assert sorted(named) == [["gap"], ["hydra"]]


def test_layout_and_method_add_up_to_the_lead() -> None:
    entries = [
        entry("hydra", 100), entry("hydra", 108, layout="igq"),
        entry("magnitude", 98), entry("magnitude", 150, layout="igq"),
    ]  # fmt: skip
    (table,) = tables(entries)
    effects = layout_effects(table)
    assert {e.name: round(200 * c["difference"]) for _, e, c in effects} == {
        "hydra": 8,
        "magnitude": 52,
    }
    assert mean_effect(effects, 0.9) == pytest.approx((8 + 52) / 2 / IMAGES)
    split = split_lead(table[0])
    assert split is not None
    assert split.leader.name == "magnitude"
    assert round(200 * split.layout["difference"]) == 52
    assert round(200 * split.method["difference"]) == -2
    assert (split.layout["significant"], split.method["significant"]) == (True, False)


@pytest.mark.parametrize(
    ("birds", "hydras", "answer"),
    [
        (160, 100, "holds"),
        (101, 100, "cannot be told"),
        (99, 100, "cannot be told"),
        (100, 160, "does not hold"),
    ],
)
def test_a_claim_is_answered_by_what_is_significant(birds: int, hydras: int, answer: str) -> None:
    (table,) = tables([entry("flying_bird", birds, layout="igq"), entry("hydra", hydras)])
    (sentence,) = answers(CLAIMS[0], table)
    assert sentence.startswith(f"at 0.9: {answer}; flying_bird is ")
    assert answers(CLAIMS[1], table) == []  # of another ratio
    assert answers(CLAIMS[2], table) == []  # of filters


def test_one_seed_tells_networks_apart_and_no_methods() -> None:
    found = [entry("harp", 160, ratio=0.99, seeds=1), entry("hydra", 100, ratio=0.99)]
    (table,) = tables(found)
    (sentence,) = answers(CLAIMS[1], table)
    assert sentence.startswith("at 0.99: cannot be told; harp is first of 2, hydra second by +30.0")
    assert sentence.endswith("significant of these two networks")
    assert "harp (layer) is significantly better than every other, of one seed." in page(found)


@pytest.mark.parametrize(
    ("pruned", "shown"), [({"rounds": [0.9]}, "layer"), ({"keep_rates": {"w": 0.1}}, "learned")]
)
def test_a_layout_that_is_learned_is_not_filed_under_what_it_started_from(pruned, shown) -> None:
    found = entry("any", 160, pruned=pruned)
    assert found.layout == shown
    (table,) = tables([found, entry("any", 150, layout="igq"), entry("hydra", 100)])
    effects = layout_effects(table)
    assert [e.name for _, e, _ in effects] == (["any"] if shown == "layer" else [])
    assert (split_lead(table[0]) is None) == (shown == "learned")


def test_a_pruner_that_was_not_run_is_said_so() -> None:
    (table,) = tables([entry("hydra", 100, ratio=0.99), entry("random", 100, ratio=0.99)])
    assert answers(CLAIMS[1], table) == ["at 0.99: harp was not run"]
    (alone,) = tables([entry("gap", 100, ratio=0.99)])
    assert answers(CLAIMS[1], alone) == []  # the best of nothing


def test_the_page_says_what_cannot_be_told_apart() -> None:
    text = page([entry("random", 100), entry("hydra", 160), entry("magnitude", 158)])
    assert "Cannot be told apart from the best, hydra (layer): magnitude (layer)." in text
    assert "| hydra | layer | 100.0 | 80.0 | – | – | 20 + 10 + 20 | 10 | – | – |" in text
    assert (
        "| random | layer | 100.0 | 50.0 | – | – | 20 + 10 + 20 | 10 | -30.0 * | -30.0 * |" in text
    )
    assert "doubt" in text  # a PGD's row would overstate; no part of AutoAttack is recorded here


def test_s2ap_is_named_and_its_search_stays_in_the_same_table() -> None:
    with_scores = entry("hydra", 150, perturb="scores")
    (table,) = tables([entry("hydra", 150), with_scores])
    assert {e.name for e in table[0].entries} == {"hydra", "hydra + S2AP"}


def test_the_reference_is_named_though_another_hydra_is_first_and_one_method_leads_nobody() -> None:
    best = entry("hydra", 190, layout="igq", perturb="scores")
    assert "| from hydra |" in page([entry("hydra", 150), best])
    assert "no other beside it" in page([best])


def test_a_pruner_is_called_what_its_command_called_it() -> None:
    run, _ = entry("set", 1, layout="erk").seen[0]
    assert list(names_from_commands([run]).values()) == ["set scope=erk"]
