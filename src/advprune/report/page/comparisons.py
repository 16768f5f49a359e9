"""Put the comparisons of methods into the columns of their table."""

from typing import Any

from advprune.report.data.attack_names import attack_text
from advprune.report.data.leaderboard_rows import method
from advprune.report.data.row import Row
from advprune.report.data.significance import Comparison
from advprune.report.page.leaderboard import percent

#: What a cell is sorted by, None where there is nothing, and its text.
Cell = tuple[Any, str]
#: The columns of what both methods of a comparison have in common.
SETTING = ("data set", "model", "with", "attack", "ratio")


class ShownComparison(Comparison):
    """A comparison with its cells: {heading: (value to sort by, text)}."""

    cells: dict[str, Cell]


def with_cells(compared: list[Comparison], rows: list[Row]) -> list[ShownComparison]:
    """Return each comparison with its cells, the better method first."""
    by_identity = {row["identity"]: row for row in rows}
    result: list[ShownComparison] = []
    for pair in compared:
        sides = (pair["of"], pair["against"])
        a, b = (by_identity[next(iter(runs.values())).identity] for runs in sides)
        if pair["difference"] < 0:  # the better one first
            a, b = b, a
        result.append(ShownComparison(**pair, cells=_cells(pair, a, b)))
    return result


def _cells(pair: Comparison, a: Row, b: Row) -> dict[str, Cell]:
    better, worse = (pair["only_of"], pair["only_against"])[:: -1 if pair["difference"] < 0 else 1]
    other = method(a) if pair["axis"] == "objective" else a["objective"]
    return {
        "data set": _text_cell(a["dataset"]),
        "model": _text_cell(a["model"]),
        "with": _text_cell(other),
        "attack": _text_cell(attack_text(a)),
        "ratio": (a["ratio"], "" if a["ratio"] is None else f"{a['ratio']:g}"),
        "differ in": _text_cell(pair["axis"]),
        "better": _text_cell(_side(pair, a)),
        "than": _text_cell(_side(pair, b)),
        "points": (abs(pair["difference"]), f"{100 * abs(pair['difference']):.1f}"),
        "95 %": _text_cell(_interval(pair)),
        "only better right": (better, str(better)),
        "only worse right": (worse, str(worse)),
        "images": (pair["images"], str(pair["images"])),
        "seeds": (pair["seeds"], str(pair["seeds"])),
        "p": (pair["p"], _probability(pair["p"])),
        "q": (pair["q"], _probability(pair["q"])),
        "significant": _text_cell("significant" if pair["significant"] else "not significant"),
    }


def _text_cell(text: str | None) -> Cell:
    return text or "", text or ""


def _side(pair: Comparison, row: Row) -> str:
    return str(row["objective"]) if pair["axis"] == "objective" else method(row)


def _interval(pair: Comparison) -> str:
    low, high = sorted(
        pair["interval"] if pair["difference"] >= 0 else [-end for end in pair["interval"]]
    )
    return f"[{percent(max(low, -1))}, {percent(min(high, 1))}]"


def _probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def without_runs(compared: list[ShownComparison]) -> list[dict[str, Any]]:
    """Return the comparisons for JSON: shares, probabilities, and evaluations' keys by seed."""
    result = []
    for pair in compared:
        sides = {
            name: {seed: run.evaluated.key for seed, run in runs.items()}
            for name, runs in (("of", pair["of"]), ("against", pair["against"]))
        }
        words = {name: pair["cells"][name][0] for name in SETTING}
        facts = {name: value for name, value in pair.items() if name != "cells"}
        result.append(facts | sides | words)
    return result
