"""Look at three claims of the literature on a table of our own, and say what came out."""

from dataclasses import dataclass

from advprune.report.data.significance import Comparison
from advprune.report.standings.table import Standings
from advprune.report.standings.words import points


@dataclass(frozen=True)
class Claim:
    """That one pruner is the best at some ratios.

    Attributes:
        text: the claim, with its source.
        pruner: the one said to be best.
        unit: what is removed.
        ratios: at which; all of a table if empty.
    """

    text: str
    pruner: str
    unit: str
    ratios: tuple[float, ...] = ()


BENCHMARK = "Adversarial Pruning Benchmark, CIFAR-10"
CLAIMS = (
    Claim(f"FlyingBird is best at 0.9 ({BENCHMARK})", "flying_bird", "weights", (0.9,)),
    Claim(f"HARP is best at 0.99 ({BENCHMARK})", "harp", "weights", (0.99,)),
    Claim(f"TwinRep is best where filters go ({BENCHMARK})", "twin_rep_filters", "filters"),
)


def answers(claim: Claim, table: list[Standings]) -> list[str]:
    """Return what a table says of a claim, a sentence for each ratio; empty if it is not of it.

    One method alone is the best of nothing.
    """
    return [
        _answer(claim, standings)
        for standings in table
        if standings.best.row["unit"] == claim.unit
        and len(standings.entries) > 1
        and (not claim.ratios or standings.ratio in claim.ratios)
    ]


def _answer(claim: Claim, standings: Standings) -> str:
    place, at = standings.place(claim.pruner), f"at {standings.ratio:g}"
    if place is None:
        return f"{at}: {claim.pruner} was not run"
    count = len(standings.entries)
    if place > 0:
        compared = standings.of_best.get(place)
        verdict = "does not hold" if _significant(compared) else "cannot be told"
        return (
            f"{at}: {verdict}; {claim.pruner} is place {place + 1} of {count}, "
            f"{standings.best.name} with {standings.best.layout} is first{_by(compared)}"
        )
    second = standings.of_best.get(1)
    verdict = "holds" if _significant(second) else "cannot be told"
    return f"{at}: {verdict}; {claim.pruner} is first of {count}{_second(second, standings)}"


def _second(compared: Comparison | None, standings: Standings) -> str:
    if compared is None:
        return ""
    return f", {standings.entries[1].name} second{_by(compared)}"


def _significant(compared: Comparison | None) -> bool:
    """Return whether methods differ: of one seed, only two networks do."""
    return compared is not None and bool(compared["significant"]) and compared["seeds"] > 1


def _by(compared: Comparison | None) -> str:
    """Return by how many points the first leads, and whether significantly."""
    if compared is None:
        return ", not compared"
    shown = points(compared, sign=-1)
    significant = "significant" if compared["significant"] else "not significant"
    return f" by {shown}, {significant}{' of these two networks' * (compared['seeds'] == 1)}"
