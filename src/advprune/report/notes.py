"""The sentences under the table: what its numbers are, and what to doubt."""

from typing import Any

from advprune.report.columns import moved


def notes(rows: list[dict[str, Any]]) -> list[str]:
    """What a reader of these pooled rows must know, a sentence each."""
    seeds = {row["seeds"] for row in rows}
    kept = " and ".join(sorted({row["checkpoint"] for row in rows}))
    said = [
        (1 in seeds, "[…]: 95 % Wilson interval over the images (one seed)"),
        (bool(seeds - {1}), "[…]: 95 % t interval over seeds"),
        (True, f"weights kept: {kept} on validation images; sparsity: zeros counted among prunable ones"),
        (
            any(row.get("smoothed") for row in rows),
            "certified: the prediction under noise is right and its radius reaches eps, abstentions are wrong",
        ),
        (
            any(_overstates(row) for row in rows),
            "PGD and its like overstate robustness: publish numbers made with attack=autoattack",
        ),
        (
            moved(rows),
            "target right: on the source's examples; both right: source too; transfer rate: target wrong, "
            "of the images both have right and on which the source is fooled",
        ),
    ]
    doubts = sorted({doubt for row in rows for doubt in row["doubts"]})
    return [sentence for holds, sentence in said if holds] + [f"doubt: {doubt}" for doubt in doubts]


def _overstates(row: dict[str, Any]) -> bool:
    return "autoattack" not in row["attack"] and row.get("robust_acc") is not None
