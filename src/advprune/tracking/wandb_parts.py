"""What a W&B run is given, made of a row of the table and of the files of a stage."""

from typing import Any

from advprune.tracking.logger import Finished, numbers

#: What differs between two looks at the same result.
PASSING = frozenset({"made", "found", "this_command", "files"})


def lasting(row: dict[str, Any]) -> dict[str, Any]:
    """What of a row is the same whenever its result is looked at."""
    return {name: value for name, value in row.items() if name not in PASSING}


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """What of a row fits into cells, an interval as two."""
    kept = lasting(row)
    words = {name: value for name, value in kept.items() if isinstance(value, str | bool)}
    return words | {"doubts": "; ".join(kept.get("doubts") or [])} | numbers(kept)


def add(artifact: Any, stage: Finished, *names: str) -> None:
    """Files of the store as they lie there: they do not change, so no copy is made."""
    for name in names:
        if (stage.folder / name).exists():
            artifact.add_file(
                str(stage.folder / name), name=f"{stage.stage}/{name}", policy="immutable"
            )
