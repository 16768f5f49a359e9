"""Prune adversarially robust networks from Python: ``prune``, ``evaluate``, ``load``.

Each name is imported when it is first used, so that ``import advprune`` loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advprune.api.evaluate import Verdict, evaluate
    from advprune.api.load import load, zoo_names
    from advprune.api.prune import PrunedNetwork, prune
    from advprune.errors import UserError
    from advprune.masks import Masks
    from advprune.models.building_blocks import Normalize
    from advprune.threat import L2, Linf

__all__ = [
    "L2",
    "Linf",
    "Masks",
    "Normalize",
    "PrunedNetwork",
    "UserError",
    "Verdict",
    "evaluate",
    "load",
    "prune",
    "zoo_names",
]
_MODULES = {
    "L2": "advprune.threat",
    "Linf": "advprune.threat",
    "Masks": "advprune.masks",
    "Normalize": "advprune.models.building_blocks",
    "PrunedNetwork": "advprune.api.prune",
    "UserError": "advprune.errors",
    "Verdict": "advprune.api.evaluate",
    "evaluate": "advprune.api.evaluate",
    "load": "advprune.api.load",
    "prune": "advprune.api.prune",
    "zoo_names": "advprune.api.load",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # also in place of a submodule of the same name
    return value


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return __all__
