"""What an objective minimises in each phase of training."""

from typing import Any


def of_phase(objective: dict[str, Any], phase: str | None) -> dict[str, Any]:
    """The objective as a phase has it: with what ``objective.phases.<phase>`` changes; None is dense training."""
    changes = (objective.get("phases") or {}).get(phase) or {}
    return {name: value for name, value in objective.items() if name != "phases"} | changes
