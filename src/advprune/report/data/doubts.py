"""Collect the doubts about a row, and tell how strong the attack behind its number is.

The terminal, the report's page, its files and W&B all take their doubts from here.
"""

from collections.abc import Callable

from advprune.report.data.row import Row

#: The parts of AutoAttack's standard version; an evaluation tells which parts it ran.
AUTOATTACK = frozenset({"apgd-ce", "apgd-t", "fab-t", "square"})
OVERSTATES = "PGD and its like overstate robustness: publish numbers made with attack=autoattack"


def doubts_of(row: Row) -> list[str]:
    """List the evaluation's own doubts and those that hold for such numbers in general."""
    doubts = list(row.get("doubts") or [])
    if strength(row) == "upper bound":
        doubts.append(OVERSTATES)
    if row.get("batch_norm") not in (None, "synchronised"):
        doubts.append(
            f"trained on {row['ranks']} ranks, BatchNorm {row['batch_norm']}: "
            "a network trained on one rank would differ"
        )
    return list(dict.fromkeys(doubts))


def strength(row: Row) -> str:
    """Return how far a row's accuracy can be relied on.

    Returns:
        ``proof``: certified, no perturbation in the ball does worse. ``AutoAttack``: all four
        parts of its standard version ran. ``upper bound``: any other search of the ball. Empty
        where no ball is searched, or where another network's examples are evaluated.
    """
    if row.get("certified_acc") is not None:
        return "proof"
    if (
        row.get("robust_acc") is None
        or row.get("perturbation")
        or row.get("source")
        or row.get("published")
    ):
        return ""
    return "AutoAttack" if set(row.get("after_each") or {}) >= AUTOATTACK else "upper bound"


def doubt_notes(rows: list[Row], label: Callable[[Row], str]) -> list[str]:
    """Return each doubt as a sentence for the foot of a table, with the rows that it concerns.

    Args:
        rows: the rows of the table.
        label: row -> its name for a reader.
    """
    rows_by_doubt: dict[str, list[str]] = {}
    for row in rows:
        for doubt in doubts_of(row):
            rows_by_doubt.setdefault(doubt, []).append(label(row))
    return [
        f"doubt: {doubt}"
        if len(names) == len(rows)
        else f"doubt ({', '.join(dict.fromkeys(names))}): {doubt}"
        for doubt, names in sorted(rows_by_doubt.items())
    ]
