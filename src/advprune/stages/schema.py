"""The types of the options at the root, so that ``ratio=99%`` is refused and not passed on as a string.

Groups (dataset, model, attack, …) are checked against the signatures of what they build: see ``door.py``.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore

from advprune.modules.recipe import Recipe


@dataclass
class Train:
    """The root of ``train.py``."""

    seed: int = 0
    source: str | None = None
    source_seed: int | None = None
    source_model: Any = None
    store: str = "multirun/stages"
    training: Recipe = field(default_factory=Recipe)
    search: Recipe = field(default_factory=Recipe)
    finetune: Recipe = field(default_factory=Recipe)
    select: Any = None
    dataset: Any = None
    model: Any = None
    objective: Any = None
    threat: Any = None
    quantizer: Any = None
    attack: Any = None
    trainer: Any = None
    logger: Any = None


@dataclass
class Prune(Train):
    """The root of ``prune.py``."""

    ratio: float | None = 0.99
    compression: float | None = None
    dense: str | None = None
    pruner: Any = None
    sizes: bool = False
    export: str | None = None


@dataclass
class Attack(Prune):
    """The root of ``attack.py``."""

    checkpoint: str | None = None


def register() -> None:
    """Make the schemas known to Hydra; the scripts call it before they compose."""
    for schema in (Train, Prune, Attack):
        ConfigStore.instance().store(name=f"{schema.__name__.lower()}_schema", node=schema)
