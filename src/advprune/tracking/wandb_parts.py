"""Select what a W&B run is given of a table row and of a stage's files."""

from collections.abc import Mapping
from typing import Any

from advprune.tracking.logger import Finished, numbers

#: What differs between two looks at the same result.
PASSING = frozenset({"made", "found", "this_command", "files"})


def lasting(row: Mapping[str, object]) -> dict[str, Any]:
    """Return the part of a row that is the same whenever its result is looked up."""
    return {name: value for name, value in row.items() if name not in PASSING}


def flat(row: Mapping[str, object]) -> dict[str, Any]:
    """Return the part of a row that fits into table cells, an interval as two."""
    cells = lasting(row)
    words = {name: value for name, value in cells.items() if isinstance(value, str | bool)}
    return words | {"doubts": "; ".join(cells.get("doubts") or [])} | numbers(cells)


def add(artifact: Any, stage: Finished, *names: str) -> None:
    """Add a stage's files to an artifact without a copy, as files of the store do not change."""
    for name in names:
        if (stage.folder / name).exists():
            artifact.add_file(
                str(stage.folder / name), name=f"{stage.stage}/{name}", policy="immutable"
            )
