"""What to doubt about a row, for the terminal, the report, its files and W&B alike; and how strong its attack is."""

from typing import Any

Row = dict[str, Any]
#: The parts of AutoAttack's standard version; an evaluation tells which parts it ran.
AUTOATTACK = frozenset({"apgd-ce", "apgd-t", "fab-t", "square"})
OVERSTATES = "PGD and its like overstate robustness: publish numbers made with attack=autoattack"


def doubts_of(row: Row) -> list[str]:
    """List what the evaluation itself doubts, and what is known of such numbers in general; each once."""
    said = list(row.get("doubts") or [])
    if strength(row) == "upper bound":
        said.append(OVERSTATES)
    if row.get("batch_norm") not in (None, "synchronised"):
        said.append(
            f"trained on {row['ranks']} ranks, BatchNorm {row['batch_norm']}: not what one would train"
        )
    return list(dict.fromkeys(said))


def strength(row: Row) -> str:
    """Say how far a share can be relied on, so that rows of unlike attacks are told apart.

    ``proof``: nothing in the ball does worse. ``AutoAttack``: all four parts of its standard
    version. ``upper bound``: any other search of the ball. Empty where there is no ball to search,
    or another network's examples are judged.
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


def attributed(rows: list[Row], called: Any) -> list[str]:
    """Each doubt of these rows as a sentence for the foot of their table, naming the rows it is about.

    Args:
        called: row -> what a reader calls it.
    """
    whose: dict[str, list[str]] = {}
    for row in rows:
        for doubt in doubts_of(row):
            whose.setdefault(doubt, []).append(called(row))
    return [
        f"doubt: {doubt}"
        if len(names) == len(rows)
        else f"doubt ({', '.join(dict.fromkeys(names))}): {doubt}"
        for doubt, names in sorted(whose.items())
    ]
