"""Options of a stage as plain values, for tests of what does not look inside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from advprune.config.groups import Pruner, typed

BASE = Path(__file__).resolve().parents[1] / "conf" / "pruner" / "base.yaml"


@dataclass(frozen=True)
class PlainOptions:
    """What ``Stage`` asks of options: their plain values."""

    node: dict[str, Any]


def pruner(**changed: Any) -> Pruner:
    """A pruner of single weights by its scope and schedule; nothing scores for it."""
    defaults = yaml.safe_load(BASE.read_text())
    return typed(Pruner, defaults | {"criterion": None, "epochs_per_round": 0} | changed)
