"""Choose what an objective minimises in each phase of training."""

from typing import Any


def of_phase(objective: dict[str, Any], phase: str | None) -> dict[str, Any]:
    """Return the objective's options in a phase, changed by ``objective.phases.<phase>``.

    Args:
        objective: its options.
        phase: ``search``, ``finetune``, or None for dense training.
    """
    changes = (objective.get("phases") or {}).get(phase) or {}
    return {name: value for name, value in objective.items() if name != "phases"} | changes
