"""Find, of the evaluations of one network, the strongest attack; the others are folded away."""

from typing import Any

from advprune.report.data.row import Row
from advprune.report.table.job_row import strength

#: What two evaluations have in common if they ask the same question of the same network.
QUESTION = ("network", "norm", "eps", "perturbation", "source")


def mark_weaker(rows: list[Row]) -> None:
    """Write ``weaker`` into each row: whether another row attacks the same network harder.

    All of AutoAttack is stronger than any other search, an attack of all test images stronger than
    one of some; of two alike, the stronger is the one that left fewer images right. A proof answers
    another question than an attack, and so does another norm or eps.

    Args:
        rows: ours, pooled over seeds; each keeps its place.
    """
    strongest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        at = _question(row)
        strongest[at] = max(strongest.get(at, row), row, key=_force)
    for row in rows:
        row["weaker"] = row is not strongest[_question(row)]


def _question(row: Row) -> tuple[Any, ...]:
    return (*(row[name] for name in QUESTION), strength(row) == "proof")


def _force(row: Row) -> tuple[bool, bool, float, int]:
    """Return what orders evaluations, the strongest last; a tighter proof is the better one."""
    proof = row.get("certified_acc")
    left = row["robust_acc"] if proof is None else -proof
    return strength(row) == "AutoAttack", row["images"] == row["of"], -left, row["images"]
