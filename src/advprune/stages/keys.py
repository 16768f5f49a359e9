"""A stage's key: a hash of what determines its result (``identity.py``), and of nothing else.

An option at its neutral value (null) is dropped, so that a new option leaves old keys valid. A change of code that
changes results raises the stage's number in ``RECIPES``, which is part of the key.
"""

import hashlib
import json
from typing import Any

from advprune.identity import of_stage

RECIPES = {"dense": 1, "pruned": 1, "finetuned": 1, "quantized": 1, "evaluated": 1, "examples": 1}
LENGTH = 16


def key(kind: str, options: dict[str, Any], parent: str | None) -> str:
    """The key of a stage of this kind with these resolved options, made from the stage keyed ``parent``."""
    described = {"stage": kind, "recipe": RECIPES[kind], "parent": parent, "options": of_stage(kind, options)}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:LENGTH]
