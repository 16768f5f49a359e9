"""Compose what a command would be given, and read which grid a preset sweeps by itself."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

import attack
import prune
import train
from advprune.config.options import resolve

assert all((attack, prune, train))  # their import registers the schemas
CONF = Path(__file__).resolve().parents[1] / "conf"


@cache
def composed(*words: str, command: str = "prune", hydra: bool = False) -> Any:
    """The options of a command, with Hydra's own part if asked for."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(command, list(words), return_hydra_config=hydra)


def options(command: str, *words: str) -> dict[str, Any]:
    """The resolved options of a command line, the caller's to change."""
    return copy.deepcopy(_resolved(command, *words))


@cache
def _resolved(command: str, *words: str) -> dict[str, Any]:
    return resolve(composed(*words, command=command))


@cache
def grid(preset: str) -> dict[str, list[str]]:
    """What ``-m experiment=preset`` alone varies: each option with its values; nothing of most."""
    swept = composed(f"experiment={preset}", hydra=True).hydra.sweeper.params or {}
    return {name: [word.strip() for word in str(words).split(",")] for name, words in swept.items()}
