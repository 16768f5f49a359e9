"""Group entries into tables, and compare each with the best and with HYDRA on the same images."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from advprune.report.data.significance import Comparison, compare, corrected
from advprune.report.standings.entry import Entry

#: The method that every other is held against besides the best, with its own layout.
REFERENCE = ("hydra", "hydra_filters")


@dataclass
class Standings:
    """The methods of one table at one ratio, the best first.

    Attributes:
        ratio: the share that is removed.
        entries: by robust accuracy.
        of_best: how each differs from the best, by its place; without the best itself.
        of_reference: how each differs from HYDRA, by its place; empty without HYDRA.
    """

    ratio: float
    entries: list[Entry]
    of_best: dict[int, Comparison] = field(default_factory=dict)
    of_reference: dict[int, Comparison] = field(default_factory=dict)

    @property
    def best(self) -> Entry:
        """Return the entry of the highest mean robust accuracy."""
        return self.entries[0]

    def place(self, pruner: str) -> int | None:
        """Return the best place that this pruner has, from 0; None if it is not there."""
        return next((at for at, e in enumerate(self.entries) if e.pruner == pruner), None)


def tables(entries: Iterable[Entry]) -> list[list[Standings]]:
    """Return the tables of pruned networks, each its ratios in order, with all comparisons.

    The p of one table are corrected together.

    Args:
        entries: of one store, those of dense networks among them.
    """
    grouped: dict[str, dict[float, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        if entry.row["ratio"] is not None and entry.row.get("robust_acc") is not None:
            grouped[entry.table][float(entry.row["ratio"])].append(entry)
    return [
        _compared(
            [Standings(ratio, sorted(found, key=_order)) for ratio, found in sorted(of.items())]
        )
        for _, of in sorted(grouped.items())
    ]


def _order(entry: Entry) -> tuple[float, str, str]:
    return -entry.robust, entry.name, entry.layout


def _compared(table: list[Standings]) -> list[Standings]:
    """Fill in the comparisons of a table, corrected for all of them."""
    pending: list[tuple[dict[int, Comparison], int, Comparison]] = []
    for standings in table:
        reference = next((at for at, e in enumerate(standings.entries) if is_reference(e)), None)
        for against, into in ((0, standings.of_best), (reference, standings.of_reference)):
            if against is None:
                continue
            for at, entry in enumerate(standings.entries):
                compared = compare("pruner", entry.seen, standings.entries[against].seen)
                if at != against and compared is not None:
                    pending.append((into, at, compared))
    done = corrected([compared for _, _, compared in pending])
    for (into, at, _), compared in zip(pending, done, strict=True):
        into[at] = compared
    return table


def is_reference(entry: Entry) -> bool:
    """Return whether the others are held against this one: HYDRA with its own layout."""
    return entry.name in REFERENCE and entry.layout in ("layer", "global")
