"""Tell how much of a lead is the layout and how much the method, on the same images and seeds."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean

from advprune.report.data.significance import Comparison, compare, corrected
from advprune.report.standings.entry import Entry
from advprune.report.standings.table import Standings

#: The layouts that are held against each other: IGQ's densities minus the same share of each layer.
PAIR = ("igq", "layer")


@dataclass(frozen=True)
class Split:
    """The lead of one method with one layout over another method with ``layer``.

    Attributes:
        leader: the leader with its own layout.
        behind: the method it leads, with ``layer``.
        layout: the leader's own layout against ``layer``, of the leader's method.
        method: the leader's method against the other, both with ``layer``.
    """

    leader: Entry
    behind: Entry
    layout: Comparison
    method: Comparison


def layout_effects(table: list[Standings]) -> list[tuple[float, Entry, Comparison]]:
    """Return (ratio, method, igq minus layer) of each method that has both, corrected together."""
    effects = [(at.ratio, *pair) for at in table for pair in _pairs(at)]
    done = corrected([compared for _, _, compared in effects])
    return [(ratio, entry, new) for (ratio, entry, _), new in zip(effects, done, strict=True)]


def mean_effect(effects: list[tuple[float, Entry, Comparison]], ratio: float) -> float | None:
    """Return the mean of igq minus layer over the methods at a ratio, a share; None without any."""
    differences = [compared["difference"] for at, _, compared in effects if at == ratio]
    return mean(differences) if differences else None


def split_lead(standings: Standings, behind: str = "hydra") -> Split | None:
    """Split the lead of the best method that has both layouts over another with ``layer``.

    The two parts add up to the lead, for they share the leader's method with ``layer``.

    Args:
        standings: one ratio of a table.
        behind: the pruner that is led.
    """
    by_layout = {(entry.name, entry.layout): entry for entry in reversed(standings.entries)}
    other = by_layout.get((behind, "layer"))
    for leader in standings.entries:
        plain = by_layout.get((leader.name, "layer"))
        if other is None or plain is None or leader.name == behind:
            continue
        layout = compare("layout", leader.seen, plain.seen)
        method = compare("pruner", plain.seen, other.seen)
        if layout is not None and method is not None:
            return Split(leader, other, *corrected([layout, method]))
    return None


def _pairs(standings: Standings) -> Iterator[tuple[Entry, Comparison]]:
    by_layout = {(entry.name, entry.layout): entry for entry in standings.entries}
    for name in dict.fromkeys(entry.name for entry in standings.entries):
        igq, layer = (by_layout.get((name, layout)) for layout in PAIR)
        compared = compare("layout", igq.seen, layer.seen) if igq and layer else None
        if igq is not None and compared is not None:
            yield igq, compared
