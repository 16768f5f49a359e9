"""The presets that sweep a whole benchmark by themselves: their grids, and that their networks are those of the default recipe."""

from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

import prune  # noqa: F401 - registers the schemas
from advprune.config.options import options_of, resolve
from advprune.pipeline.plan import plan_pruned

ROOT = Path(__file__).resolve().parents[1]


@cache
def composed(*words: str, hydra: bool = False) -> Any:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("prune", list(words), return_hydra_config=hydra)


def grid(preset: str) -> dict[str, list[str]]:
    """What ``-m experiment=preset`` alone varies: each option with its values."""
    swept = composed(f"experiment={preset}", hydra=True).hydra.sweeper.params
    return {
        name: [value.strip() for value in str(values).split(",")] for name, values in swept.items()
    }


def key(*words: str) -> str:
    return plan_pruned(options_of(resolve(composed(*words)))).final.key


def test_the_digits_part_is_the_default_recipe_judged_by_autoattack() -> None:
    words = ("pruner=flying_bird", "ratio=0.95", "seed=2")
    assert key("experiment=small_benchmark_digits_weights", *words) == key(
        "attack=autoattack", "attack.engine=fast", "trainer=cpu", *words
    )


def test_the_digits_part_has_every_method_of_single_weights() -> None:
    files = {path.stem for path in (ROOT / "conf" / "pruner").glob("*.yaml")}
    of_weights = {
        name for name in files if not name.endswith(("_authors", "filters", "blocks", "base"))
    }
    swept = grid("small_benchmark_digits_weights")
    assert len(swept["pruner"]) == len(set(swept["pruner"])) == 26
    assert set(swept["pruner"]) == of_weights - {"bnap"}
    assert (swept["ratio"], swept["seed"]) == (["0.99", "0.95", "0.9"], ["0", "1", "2"])
