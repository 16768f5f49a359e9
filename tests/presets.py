"""Compose a preset as its command would, and read which grid it sweeps by itself."""

from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

import prune  # noqa: F401 - registers the schemas

CONF = Path(__file__).resolve().parents[1] / "conf"


@cache
def composed(*words: str, command: str = "prune", hydra: bool = False) -> Any:
    """The options of a command, with Hydra's own part if asked for."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(command, list(words), return_hydra_config=hydra)


@cache
def grid(preset: str) -> dict[str, list[str]]:
    """What ``-m experiment=preset`` alone varies: each option with its values; nothing of most."""
    swept = composed(f"experiment={preset}", hydra=True).hydra.sweeper.params or {}
    return {name: [word.strip() for word in str(words).split(",")] for name, words in swept.items()}
