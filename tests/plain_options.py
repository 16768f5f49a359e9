"""Options of a stage as plain values, for tests of what does not look inside them."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PlainOptions:
    """What ``Stage`` asks of options: their plain values."""

    node: dict[str, Any]
