"""Read what a stage measured while it trained, thinned for a small picture."""

import json
import math
from pathlib import Path
from typing import Any

#: The columns that are drawn; each may be missing in some epochs.
COLUMNS = ("loss", "val_clean_acc", "val_robust_acc")
#: Epochs of a stage that are kept, at most: a picture of a few hundred pixels shows no more.
MOST = 30


def read_curves(path: Path, most: int = MOST) -> dict[str, list[float | None]]:
    """Return a stage's training curves, one value an epoch.

    Args:
        path: the ``curves.json`` of a stage.
        most: number of epochs to keep: evenly spaced ones, the last among them.

    Returns:
        ``epoch``, and of ``COLUMNS`` those that were measured; in three digits. Empty of a stage
        that did not train, or whose file is not what training writes.
    """
    try:
        phases = json.loads(path.read_text())
        rows = [row for rows in phases.values() for row in rows if "loss" in row]
        kept = _thinned(rows, most)
        curves = {name: [_short(row.get(name)) for row in kept] for name in ("epoch", *COLUMNS)}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: values for name, values in curves.items() if any(v is not None for v in values)}


def _thinned(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    step = max(math.ceil(len(rows) / most), 1)
    return rows[::-1][::step][::-1]


def _short(value: float | None) -> float | None:
    """Return a number in three digits; None of one that is missing or not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.3g}")
