"""The presets that sweep a whole benchmark by themselves: their grids, and whose recipe their networks have."""

import pytest
from presets import CONF, composed, grid

from advprune.config.options import options_of, resolve
from advprune.pipeline.plan import plan_pruned

#: The pruners of the benchmark's table that have a grid of the default objective; PwoA has a command of its own.
PUBLISHED = {
    "radmm",
    "hydra",
    "harp",
    "mad",
    "li20",
    "rst",
    "robust_bird",
    "twin_rep",
    "flying_bird",
}
STRUCTURED = {"filters", "hydra_filters", "harp_filters", "radmm_filters", "twin_rep_filters"}
SEEDS = ["0", "1", "2"]


def key(*words: str) -> str:
    return plan_pruned(options_of(resolve(composed(*words)))).final.key


def test_the_digits_part_is_the_default_recipe_judged_by_autoattack() -> None:
    words = ("pruner=flying_bird", "ratio=0.95", "seed=2")
    assert key("experiment=small_benchmark_digits_weights", *words) == key(
        "attack=autoattack", "attack.engine=fast", "trainer=cpu", *words
    )


def test_the_small_benchmark_has_every_method_of_single_weights() -> None:
    files = {path.stem for path in (CONF / "pruner").glob("*.yaml")}
    others = ("_authors", "filters", "columns", "blocks", "base")
    of_weights = {name for name in files if not name.endswith(others)}
    for part in ("digits", "mnist", "cifar10"):
        swept = grid(f"small_benchmark_{part}_weights")
        without_batch_norm = set() if part == "cifar10" else {"bnap"}
        assert sorted(swept["pruner"]) == sorted(of_weights - without_batch_norm)
        assert (swept["ratio"], swept["seed"]) == (["0.99", "0.95", "0.9"], SEEDS)


@pytest.mark.parametrize("part", ["digits", "mnist", "cifar10"])
def test_the_ratio_of_filters_is_of_macs_for_all_methods(part: str) -> None:
    preset = f"small_benchmark_{part}_filters"
    swept = grid(preset)
    assert set(swept["pruner"]) == STRUCTURED
    assert (swept["ratio"], swept["seed"]) == (["0.5", "0.75", "0.9"], SEEDS)
    for pruner in swept["pruner"]:
        assert composed(f"experiment={preset}", f"pruner={pruner}").pruner.budget == "macs"


@pytest.mark.parametrize("dataset", ["cifar10", "svhn"])
def test_the_benchmark_sweeps_networks_methods_and_both_radii(dataset: str) -> None:
    weights, filters = (grid(f"benchmark_{dataset}_{unit}") for unit in ("weights", "filters"))
    for swept in (weights, filters):
        assert swept["model"] == ["resnet18", "vgg16_bn"]
        assert swept["attack.eps"] == ["8/255", "0.031"]
        assert swept["seed"] == SEEDS
    assert set(weights["pruner"]) == PUBLISHED | {"bcs", "magnitude", "random"}
    assert set(filters["pruner"]) == STRUCTURED
    assert (weights["ratio"], filters["ratio"]) == (["0.9", "0.95", "0.99"], ["0.5", "0.75", "0.9"])


def test_a_word_of_the_command_narrows_the_grid_of_a_preset() -> None:
    """Hydra's sweeper puts the preset's words first and the command's last, of which the last counts."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    preset = composed("experiment=small_benchmark_digits_weights", hydra=True).hydra.sweeper.params
    words = [*(f"{name}={value}" for name, value in preset.items()), "pruner=hydra,harp", "seed=0"]
    jobs = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)[0]
    assert len(jobs) == 2 * 3
    assert {(job[0], job[2]) for job in jobs} == {
        (f"pruner={p}", "seed=0") for p in ("hydra", "harp")
    }
